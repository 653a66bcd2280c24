//! An exponential moving average of the weights, which is evaluated beside the raw weights.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::variables::Variable;
use pixtok_torch::{catching, no_grad};

/// The averages of parameters. Buffers are not averaged: they are taken from the raw model.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    parameters: Vec<Variable>,
    averages: Vec<Tensor>,
}

impl WeightAverage {
    /// Averages that start at the current values of `parameters`.
    #[must_use]
    pub fn new(decay: f64, mut parameters: Vec<Variable>) -> Self {
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let averages = parameters.iter().map(|param| param.tensor.detach().copy()).collect();
        Self { decay, parameters, averages }
    }

    /// Updates the average after optimizer step `step` (counted from 0):
    /// average ← d·average + (1 − d)·parameter, where d = min(decay, (1 + step) / (10 + step)), so
    /// that the first weights don't dominate the average of a short run.
    pub fn update(&mut self, step: u64) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        no_grad(|| {
            for (average, param) in self.averages.iter_mut().zip(&self.parameters) {
                let _ = average.lerp_(&param.tensor, 1.0 - decay);
            }
        });
    }

    /// Copies the rows of parameter `name` where `mask` (`[rows]` bool) holds.
    pub fn copy_rows(&mut self, name: &str, mask: &Tensor) {
        let Some(i) = self.parameters.iter().position(|found| found.name == name) else { return };
        let param = &self.parameters[i].tensor;
        let mut shape = vec![1; param.dim()];
        shape[0] = -1;
        no_grad(|| {
            let mixed = param.where_self(&mask.view(shape.as_slice()), &self.averages[i]);
            self.averages[i].copy_(&mixed);
        });
    }

    /// The averages by parameter name. They share their storage, so that a load writes into them.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let names = self.parameters.iter().map(|param| param.name.clone());
        names.zip(self.averages.iter().map(Tensor::shallow_clone)).collect()
    }

    /// Runs `body` while the parameters hold the averages. The parameters get their own values back
    /// even if `body` panics.
    pub fn in_place<T>(&self, body: impl FnOnce() -> T) -> T {
        let raw = self.parameters.iter().map(|param| param.tensor.detach().copy()).collect();
        let _back = SwapBack { parameters: &self.parameters, raw };
        write(&self.parameters, &self.averages);
        body()
    }
}

/// Restores the parameters' own values on drop.
struct SwapBack<'a> {
    parameters: &'a [Variable],
    raw: Vec<Tensor>,
}

impl Drop for SwapBack<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would abort the program before the first one is reported.
            let _ = catching(|| write(self.parameters, &self.raw));
        } else {
            write(self.parameters, &self.raw);
        }
    }
}

fn write(parameters: &[Variable], values: &[Tensor]) {
    no_grad(|| {
        for (param, value) in parameters.iter().zip(values) {
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
        (param, WeightAverage::new(decay, variables.entries()))
    }

    #[test]
    fn follows_with_warmup_and_swaps_back() {
        let (mut param, mut average) = averaged(0.5);
        let _ = no_grad(|| param.fill_(1.0));
        average.update(0);
        // d = min(0.5, 1/10).
        assert!((average.state()["p"].double_value(&[0, 0]) - 0.9).abs() < 1e-6);
        average.update(1000);
        assert!((average.state()["p"].double_value(&[0, 0]) - 0.95).abs() < 1e-6);
        average.in_place(|| assert!((param.double_value(&[0, 0]) - 0.95).abs() < 1e-6));
        assert_eq!(param.double_value(&[0, 0]), 1.0);
        assert!(catching(|| average.in_place(|| param.view([3]))).is_err());
        assert_eq!(param.double_value(&[0, 0]), 1.0);
    }

    #[test]
    fn replaced_rows_are_taken_over() {
        let (mut param, mut average) = averaged(0.9);
        let _ = no_grad(|| param.fill_(4.0));
        average.copy_rows("p", &Tensor::from_slice(&[false, true]));
        assert_eq!(average.state()["p"], Tensor::from_slice(&[0f32, 4.0]).view([2, 1]));
    }
}
