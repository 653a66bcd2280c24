//! The shared code of quantizers that consist of several others: indices with an additional axis,
//! statistics and reports by part.

use tch::Tensor;

use super::{CodebookShape, LossTerm, Mode, Quantizer};
use crate::statistics::{Monitor, Statistic, UpdateReport};
use pixtok_base::seed::Seed;

/// The quantizers of the stages or groups, all of one kind and size.
#[derive(Debug)]
pub struct Parts(pub Vec<Box<dyn Quantizer>>);

/// The results of the parts in one pass, in order.
#[derive(Debug, Default)]
pub struct Gathered {
    indices: Vec<Tensor>,
    losses: Vec<Vec<LossTerm>>,
    statistics: Vec<Statistic>,
    monitors: Vec<Monitor>,
}

impl Parts {
    /// The number of parts.
    pub fn count(&self) -> i64 {
        self.0.len() as i64
    }

    /// The codebooks of one part, times the number of parts.
    pub fn codebook(&self) -> CodebookShape {
        let mut shape = self.0[0].codebook();
        shape.codebooks *= self.count();
        shape
    }

    /// Codes of one codebook, counted over all parts in order.
    pub fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor {
        let each = self.0[0].codebook().codebooks;
        self.0[(codebook / each) as usize].codes(codebook % each, indices)
    }

    /// The indices of each part.
    ///
    /// # Shapes
    /// `[B, N]` for a single codebook in total, otherwise `[B, N, codebooks]`, or those of the first
    /// parts; each part's are similar.
    pub fn indices_by_part(&self, indices: &Tensor) -> Vec<Tensor> {
        let (all, each) = (self.codebook().codebooks, self.0[0].codebook().codebooks);
        if all == 1 {
            return vec![indices.shallow_clone()];
        }
        let of_part = |part: i64| match each {
            1 => indices.select(2, part),
            _ => indices.narrow(2, part * each, each),
        };
        (0..indices.size()[2] / each).map(of_part).collect()
    }

    /// The inverse of [`Parts::indices_by_part`].
    pub fn joined_indices(&self, gathered: &Gathered) -> Tensor {
        let indices = &gathered.indices;
        match (indices.as_slice(), self.0[0].codebook().codebooks) {
            ([only], _) => only.shallow_clone(),
            (several, 1) => Tensor::stack(several, 2),
            (several, _) => Tensor::cat(several, 2),
        }
    }

    /// Updates each part with its own statistics.
    pub fn update(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        let mut report = UpdateReport::default();
        for ((i, part), statistic) in (0..).zip(&mut self.0).zip(statistics) {
            let Statistic::Part(own) = statistic else { continue };
            let of_part = part.update(own, seed.derive("part", &[i]));
            report.replaced_rows.extend(of_part.replaced_rows);
            report.monitors.extend(numbered(of_part.monitors, i));
        }
        report
    }
}

/// Numbers the monitors: `codebook/restarts` of part 2 is `codebook/restarts/2`.
fn numbered(monitors: Vec<Monitor>, part: u64) -> impl Iterator<Item = Monitor> {
    monitors.into_iter().map(move |Monitor { name, value }| Monitor { name: format!("{name}/{part}"), value })
}

impl Gathered {
    /// Runs the next part on its share of the latent, stores its results and returns its latent.
    pub fn run(&mut self, part: &dyn Quantizer, z: &Tensor, mode: Mode) -> Tensor {
        let i = self.indices.len() as u64;
        let mode = match mode {
            Mode::Eval => Mode::Eval,
            Mode::Train { noise, world } => Mode::Train { noise: noise.derive("part", &[i]), world },
        };
        let quantized = part.quantize(z, mode);
        self.indices.push(quantized.indices);
        self.losses.push(quantized.losses);
        if mode != Mode::Eval {
            self.statistics.push(Statistic::Part(quantized.statistics));
        }
        self.monitors.extend(numbered(quantized.monitors, i));
        quantized.latent
    }

    /// The terms, summed over the parts by name, times `share`.
    pub fn losses(&mut self, share: f64) -> Vec<LossTerm> {
        let mut merged: Vec<LossTerm> = vec![];
        for term in self.losses.drain(..).flatten() {
            match merged.iter_mut().find(|found| found.name == term.name) {
                Some(found) => found.value = &found.value + term.value * share,
                None => merged.push(LossTerm { value: term.value * share, ..term }),
            }
        }
        merged
    }

    /// The statistics of all parts.
    pub fn statistics(&mut self) -> Vec<Statistic> {
        std::mem::take(&mut self.statistics)
    }

    /// The monitors of all parts.
    pub fn monitors(&mut self) -> Vec<Monitor> {
        std::mem::take(&mut self.monitors)
    }
}
