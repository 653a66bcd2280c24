//! Vector quantization (van den Oord et al. 2017, arXiv 1711.00937): each latent vector becomes the
//! nearest of K learned codes. The codebook learns by gradient or follows its vectors as a moving
//! average; codes that no vector chooses can be restarted.

mod config;

use tch::{Kind, Tensor};

pub use config::{CodebookUpdate, Config, Distance, Start};

use super::codebook::{distance_losses, nearest_codes, rows};
use super::entropy::assignment_entropy;
use super::kmeans::{kmeans, sample_rows};
use super::projection::Projection;
use super::search::{Nearness, assigned};
use super::vectors::{latent_from_vectors, normalised, vectors_from_latent};
use super::{
    CodebookShape, LossTerm, Mode, Quantized, Quantizer, QuantizerError, Settings, StartOutcome, Words,
};
use crate::layers::as_kind;
use crate::statistics::{Monitor, ReplacedRows, Statistic, UpdateReport, pool, sum};
use crate::variables::{Init, Scope};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::{Noise, in_full_precision, no_grad};

/// The number of iterations of the k-means start.
const KMEANS_ITERATIONS: usize = 10;
/// The largest number of vectors that the k-means start uses.
const MAX_START_VECTORS: i64 = 1 << 18;
/// The largest number of vectors of one step from which restarted codes are chosen.
const MAX_RESTART_POOL: i64 = 8192;
/// Laplace smoothing of the moving average's counts (as in VQ-VAE-2's implementation).
const SMOOTHING: f64 = 1e-5;

/// The VQ quantizer.
#[derive(Debug)]
pub struct Vq {
    config: Config,
    projection: Projection,
    /// Full name of the codebook variable.
    codebook_name: String,
    /// e, the codebook, `[K, D]`: a parameter if it learns by gradient, otherwise a buffer.
    codebook: Tensor,
    /// N, `[K]`: moving average of the number of vectors that chose each code in a step.
    counts: Tensor,
    /// m, `[K, D]`: moving average of the sum of these vectors; only with the moving-average
    /// update.
    sums: Option<Tensor>,
    /// `[1]`, 1 once `start` has run.
    started: Tensor,
}

impl Vq {
    /// Registers codebook, averages and projection under `path`.
    ///
    /// # Errors
    /// See [`Settings::check`].
    pub fn new(path: &Scope, config: &Config, channels: i64) -> Result<Self, QuantizerError> {
        config.check()?;
        let (k, d) = (config.codebook_size, config.codebook_dim);
        let init = Init::Uniform { bound: 1.0 / k as f64 };
        let codebook = if config.by_gradient() {
            path.codebook("codebook", [k, d], init)
        } else {
            path.codebook_buffer("codebook", [k, d], init)
        };
        let sums = (!config.by_gradient()).then(|| {
            let mut sums = path.buffer("sums", &[k, d], Init::Zeros);
            sums.copy_(&codebook);
            sums
        });
        Ok(Self {
            projection: Projection::new(path, channels, d),
            codebook_name: path.name("codebook"),
            codebook,
            counts: path.buffer("counts", &[k], Init::Ones),
            sums,
            started: path.buffer("started", &[1], Init::Zeros),
            config: config.clone(),
        })
    }

    /// Turns rows of the table into codes: with the cosine distance, their directions.
    fn as_codes(&self, rows: Tensor) -> Tensor {
        match self.config.distance {
            Distance::Euclidean => rows,
            Distance::Cosine => normalised(&rows),
        }
    }

    /// The latent in the form in which it is compared with codes: projected and, with the cosine
    /// distance, normalised.
    fn comparable(&self, z: &Tensor) -> Tensor {
        let z = self.projection.project_in(&as_kind(z, Kind::Float));
        match self.config.distance {
            Distance::Euclidean => z,
            Distance::Cosine => normalised(&z),
        }
    }

    fn losses(&self, z: &Tensor, codes: &Tensor, world: &World) -> (Vec<LossTerm>, Vec<Monitor>) {
        let config = &self.config;
        let codebook = config.by_gradient().then_some(1.0);
        let mut losses = config
            .commitment()
            .map_or_else(Vec::new, |commitment| distance_losses(z, codes, commitment, codebook));
        let mut monitors = vec![];
        if config.entropy_weight > 0.0 {
            // −‖z − e‖²/τ = (2z·e − ‖e‖²)/τ, without the term that all codes share.
            let table = self.as_codes(self.codebook.shallow_clone());
            let products = &table * (2.0 / config.entropy_temperature);
            let lengths = table.square().sum_dim_intlist(1, false, Kind::Float) / -config.entropy_temperature;
            let (vectors, budget) = (vectors_from_latent(z), config.memory_budget);
            let entropies = assignment_entropy(&vectors, &products, Some(&lengths), budget, world);
            monitors = entropies.monitors();
            losses.push(LossTerm { name: "entropy", value: entropies.loss, weight: config.entropy_weight });
        }
        (losses, monitors)
    }

    /// What the update needs of a micro-batch.
    ///
    /// # Shapes
    /// `z [B, N, D]`, detached, and its `indices [B, N]`.
    fn statistics(&self, z: &Tensor, indices: &Tensor, noise: Noise) -> Vec<Statistic> {
        let restarts = self.config.restarts();
        if self.sums.is_none() && !restarts {
            return vec![];
        }
        let vectors = vectors_from_latent(z);
        let (counts, sums) = assigned(&vectors, &indices.view([-1]), self.config.codebook_size);
        let mut statistics = vec![Statistic::Sum { name: "counts", value: counts }];
        if self.sums.is_some() {
            statistics.push(Statistic::Sum { name: "sums", value: sums });
        }
        if restarts {
            let capacity = self.config.codebook_size.min(MAX_RESTART_POOL);
            let keys = noise.derive("restart pool", &[]).bits(&indices.size(), indices.device()).view([-1]);
            statistics.push(Statistic::pool_of("vectors", &keys, &vectors, capacity));
        }
        statistics
    }

    /// Updates the moving averages and, from them, the codebook (VQ-VAE-2's appendix; smoothed
    /// counts Ñ).
    fn follow(&mut self, new_counts: &Tensor, new_sums: Option<&Tensor>) {
        let decay = self.config.codebook_update.decay();
        // N ← γN + (1−γ)n.
        let _ = self.counts.lerp_(new_counts, 1.0 - decay);
        let (Some(sums), Some(new_sums)) = (&mut self.sums, new_sums) else { return };
        // m ← γm + (1−γ)Σz.
        let _ = sums.lerp_(new_sums, 1.0 - decay);
        // Ñ = (N + ε) / (ΣN + Kε) · ΣN; e = m / Ñ, at length 1 for the cosine distance.
        let total = self.counts.sum(Kind::Float);
        let smoothed =
            (&self.counts + SMOOTHING) / (&total + self.config.codebook_size as f64 * SMOOTHING) * &total;
        let means = &*sums / smoothed.unsqueeze(1);
        self.codebook.copy_(&self.as_codes(means));
    }

    /// The uses per step under which a code is restarted, a scalar. `new_counts` are those of this
    /// step, over all processes.
    fn restart_threshold(&self, new_counts: &Tensor) -> Tensor {
        if self.config.restart_below > 0.0 {
            let even = new_counts.sum(Kind::Float) / self.config.codebook_size as f64;
            even * self.config.restart_below
        } else {
            Tensor::full([], self.config.restart_threshold, (Kind::Float, self.counts.device()))
        }
    }

    /// Moves every code whose count is under the threshold to a vector of `pool` and sets its count
    /// to the threshold. The code stays there if at least as many vectors choose it in the next
    /// step.
    fn restart(&mut self, threshold: &Tensor, pool: &Tensor, seed: Seed) -> UpdateReport {
        let dead = self.counts.lt_tensor(threshold);
        let column = dead.unsqueeze(1);
        let rows = sample_rows(pool, self.config.codebook_size, seed.derive("restart", &[]));
        self.codebook.copy_(&rows.where_self(&column, &self.codebook));
        if let Some(sums) = &mut self.sums {
            sums.copy_(&(&rows * threshold).where_self(&column, sums));
        }
        let _ = self.counts.masked_fill_tensor_(&dead, threshold);
        let restarts = Monitor { name: "codebook/restarts".into(), value: dead.sum(Kind::Float) };
        let mut report = UpdateReport { monitors: vec![restarts], ..UpdateReport::default() };
        // A buffer has no optimizer moments to clear.
        if self.config.by_gradient() {
            report.replaced_rows.push(ReplacedRows { variable: self.codebook_name.clone(), mask: dead });
        }
        report
    }
}

impl Quantizer for Vq {
    fn start_vectors(&self) -> Option<i64> {
        let wanted = self.config.start == Start::Kmeans && self.started.double_value(&[0]) == 0.0;
        wanted.then(|| (4 * self.config.codebook_size).min(MAX_START_VECTORS))
    }

    fn start(
        &mut self,
        z: &Tensor,
        seed: Seed,
        going_on: &mut dyn FnMut() -> bool,
    ) -> Result<StartOutcome, QuantizerError> {
        no_grad(|| {
            in_full_precision(|| {
                let vectors = vectors_from_latent(&self.comparable(z));
                if vectors.isfinite().all().int64_value(&[]) == 0 {
                    return Err(QuantizerError(
                        "the encoder's first latents are not finite, so k-means cannot start the codebook; \
                         lower optimizer.lr or check the images"
                            .into(),
                    ));
                }
                let config = &self.config;
                let clusters = kmeans(
                    &vectors,
                    config.codebook_size,
                    KMEANS_ITERATIONS,
                    seed,
                    config.memory_budget,
                    |means| self.as_codes(means),
                    going_on,
                );
                let Some(clusters) = clusters else { return Ok(StartOutcome::Stopped) };
                self.codebook.copy_(&clusters.means);
                if let Some(sums) = &mut self.sums {
                    sums.copy_(&(&clusters.means * clusters.counts.unsqueeze(1)));
                    self.counts.copy_(&clusters.counts);
                }
                let _ = self.started.fill_(1.0);
                Ok(StartOutcome::Whole)
            })
        })
    }

    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        in_full_precision(|| {
            let z = self.comparable(z);
            let block = |first, n| self.as_codes(self.codebook.narrow(0, first, n));
            let (k, budget) = (self.config.codebook_size, self.config.memory_budget);
            let indices = nearest_codes(&z, k, block, Nearness::Euclidean, budget);
            let codes = self.codes(0, &indices);
            let (latent, (losses, monitors), statistics) = match mode {
                Mode::Eval => (codes, Default::default(), vec![]),
                Mode::Train { noise, world } => (
                    self.config.gradient_estimator.estimate(&codes, &z),
                    self.losses(&z, &codes, world),
                    self.statistics(&z.detach(), &indices, noise),
                ),
            };
            Quantized {
                latent: self.projection.project_out(&latent),
                indices,
                losses,
                statistics,
                monitors,
                stages: vec![],
            }
        })
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        in_full_precision(|| self.projection.project_out(&self.codes(0, indices).detach()))
    }

    fn codes(&self, _codebook: i64, indices: &Tensor) -> Tensor {
        latent_from_vectors(&self.as_codes(rows(&self.codebook, indices)), indices)
    }

    fn codebook(&self) -> CodebookShape {
        CodebookShape { codebooks: 1, size: self.config.codebook_size, dim: self.config.codebook_dim }
    }

    fn update(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        no_grad(|| {
            let Some(counts) = sum(statistics, "counts") else { return UpdateReport::default() };
            self.follow(counts, sum(statistics, "sums"));
            match pool(statistics, "vectors") {
                Some(vectors) => self.restart(&self.restart_threshold(counts), vectors, seed),
                None => UpdateReport::default(),
            }
        })
    }

    fn collapse_remedy(&self, vectors: i64) -> Words {
        let restarts = self.config.restart_remedy(vectors).map(|remedy| remedy.text(", "));
        let words = restarts.unwrap_or_default().text("choose a smaller ").setting("codebook_size");
        words.text(", or use kind = \"fsq\"")
    }
}

#[cfg(test)]
mod tests;
