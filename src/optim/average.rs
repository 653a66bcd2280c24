//! An exponential moving average of the weights, which is evaluated beside the raw weights.

use tch::Tensor;

use super::shares::{SharedState, Shares, Sharing};
use crate::variables::Variable;
use crate::world::{World, WorldError};
use pixtok_torch::tensors::Form;
use pixtok_torch::{catching, no_grad};

/// The averages of parameters. Buffers are not averaged: they are taken from the raw model.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    shares: Shares,
    /// Those of this process's parameters.
    averages: Vec<Tensor>,
}

impl WeightAverage {
    /// Averages that start at the current values of `parameters`. If they are divided, every
    /// process needs the same parameters.
    #[must_use]
    pub fn new(decay: f64, mut parameters: Vec<Variable>, sharing: Sharing) -> Self {
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let shares = Shares::deal(parameters, sharing);
        let averages = shares.own().map(|param| param.tensor.detach().copy()).collect();
        Self { decay, shares, averages }
    }

    /// Updates the average after optimizer step `step` (counted from 0):
    /// average ← d·average + (1 − d)·parameter, where d = min(decay, (1 + step) / (10 + step)), so
    /// that the first weights don't dominate the average of a short run.
    pub fn update(&mut self, step: u64) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        no_grad(|| {
            for (average, param) in self.averages.iter_mut().zip(self.shares.own()) {
                let _ = average.lerp_(&param.tensor, 1.0 - decay);
            }
        });
    }

    /// Copies the rows of parameter `name` where `mask` (`[rows]` bool) holds, if this process
    /// keeps its average.
    pub fn copy_rows(&mut self, name: &str, mask: &Tensor) {
        let kept = self.averages.iter_mut().zip(self.shares.own());
        for (average, Variable { tensor: param, .. }) in kept.filter(|(_, param)| param.name == name) {
            let mut shape = vec![1; param.dim()];
            shape[0] = -1;
            no_grad(|| {
                let mixed = param.where_self(&mask.view(shape.as_slice()), average);
                average.copy_(&mixed);
            });
        }
    }

    /// The averages by parameter name.
    #[must_use]
    pub fn state(&self) -> SharedState {
        let names = self.shares.own().map(|param| param.name.clone());
        let own = names.zip(self.averages.iter().map(Tensor::shallow_clone)).collect();
        self.shares.state(|param| vec![(param.name.clone(), Form::of(&param.tensor))], own)
    }

    /// Gives the parameters the averages as values until the result is dropped, also by a panic.
    /// Every process has to take part, since each may keep only some averages.
    ///
    /// # Errors
    /// [`WorldError`]; the parameters have their own values.
    pub fn put_in_place(&self, world: &World) -> Result<InPlace<'_>, WorldError> {
        let raw = self.shares.all().map(|param| param.tensor.detach().copy()).collect();
        let in_place = InPlace { shares: &self.shares, raw };
        write(self.shares.own(), &self.averages);
        self.shares.spread(world)?;
        Ok(in_place)
    }
}

/// The averages are the parameters' values. Dropping it gives the parameters their own values back.
#[derive(Debug)]
#[must_use]
pub struct InPlace<'a> {
    shares: &'a Shares,
    /// The own values of all parameters.
    raw: Vec<Tensor>,
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would abort the program before the first one is reported.
            let _ = catching(|| write(self.shares.all(), &self.raw));
        } else {
            write(self.shares.all(), &self.raw);
        }
    }
}

fn write<'a>(parameters: impl Iterator<Item = &'a Variable>, values: &[Tensor]) {
    no_grad(|| {
        for (param, value) in parameters.zip(values) {
            param.tensor.shallow_clone().copy_(value);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Init, Variables};
    use tch::Device;

    /// One parameter of two rows, called p, and its average.
    fn averaged(decay: f64) -> (Tensor, WeightAverage) {
        let variables = Variables::new(Device::Cpu);
        let param = variables.root(Component::Encoder).matrix("p", [2, 1], Init::Zeros);
        (param, WeightAverage::new(decay, variables.entries(), Sharing::WHOLE))
    }

    #[test]
    fn follows_with_warmup_and_swaps_back() {
        let (mut param, mut average) = averaged(0.5);
        let _ = no_grad(|| param.fill_(1.0));
        average.update(0);
        // d = min(0.5, 1/10).
        assert!((average.state().own()["p"].double_value(&[0, 0]) - 0.9).abs() < 1e-6);
        average.update(1000);
        assert!((average.state().own()["p"].double_value(&[0, 0]) - 0.95).abs() < 1e-6);
        let in_place = average.put_in_place(&World::single()).unwrap();
        assert!((param.double_value(&[0, 0]) - 0.95).abs() < 1e-6);
        drop(in_place);
        assert_eq!(param.double_value(&[0, 0]), 1.0);
        let panicked = catching(|| {
            let _in_place = average.put_in_place(&World::single()).unwrap();
            assert!((param.double_value(&[0, 0]) - 0.95).abs() < 1e-6);
            param.view([3])
        });
        assert!(panicked.unwrap_err().to_string().contains("shape"));
        assert_eq!(param.double_value(&[0, 0]), 1.0);
    }

    #[test]
    fn replaced_rows_are_taken_over() {
        let (mut param, mut average) = averaged(0.9);
        let _ = no_grad(|| param.fill_(4.0));
        average.copy_rows("p", &Tensor::from_slice(&[false, true]));
        assert_eq!(average.state().own()["p"], Tensor::from_slice(&[0f32, 4.0]).view([2, 1]));
    }
}
