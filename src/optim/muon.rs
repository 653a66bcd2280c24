//! Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"): it makes
//! the momentum of a weight matrix nearly orthogonal, so that the matrix learns at the same rate in
//! every direction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::variables::{Component, Role, Variable};
use pixtok_torch::no_grad;
use pixtok_torch::tensors::Form;

/// Settings of Muon. Its weights decay by `optimizer.weight_decay`, and its learning rate follows
/// the same schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Learning rate at the schedule's peak: about the root mean square of a step's singular
    /// values.
    pub lr: f64,
    /// Decay rate of the Nesterov momentum.
    pub momentum: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { lr: 0.02, momentum: 0.95 }
    }
}

/// Whether Muon optimizes a parameter: the weight of a layer from features to features. The first
/// and the last layer have pixels on one side, and the quantizer's own weights are a codebook or
/// project to one.
#[must_use]
pub fn is_hidden(parameter: &Variable) -> bool {
    matches!(parameter.role, Role::Matrix | Role::Conv)
        && !parameter.touches_pixels
        && parameter.component != Component::Quantizer
}

/// The rows and the columns of a weight as a matrix. The first axis is the rows; the other axes
/// together are the columns.
pub(super) fn matrix_size(parameter: &Variable) -> (i64, i64) {
    let rows = parameter.tensor.size()[0];
    (rows, parameter.count() / rows)
}

/// Weights of the same shape, which are processed together.
#[derive(Debug)]
struct Same {
    names: Vec<String>,
    params: Vec<Tensor>,
    /// `[weights, out, in · kernel]`.
    momentum: Tensor,
}

/// Muon for a list of weights. Its momentum is saved and loaded by name.
#[derive(Debug)]
pub struct Muon {
    config: Config,
    weight_decay: f64,
    groups: Vec<Same>,
}

impl Muon {
    /// An optimizer of `parameters` with two axes or more, with zero momentum.
    #[must_use]
    pub fn new(config: &Config, weight_decay: f64, parameters: Vec<Variable>) -> Self {
        let mut by_shape: BTreeMap<(i64, i64), Vec<Variable>> = BTreeMap::new();
        for param in parameters {
            by_shape.entry(matrix_size(&param)).or_default().push(param);
        }
        let groups = by_shape.into_iter().map(|((rows, columns), mut same)| {
            same.sort_by(|a, b| a.name.cmp(&b.name));
            let momentum =
                Tensor::zeros([same.len() as i64, rows, columns], (Kind::Float, same[0].tensor.device()));
            let (names, params) = same.into_iter().map(|param| (param.name, param.tensor)).unzip();
            Same { names, params, momentum }
        });
        Self { config: config.clone(), weight_decay, groups: groups.collect() }
    }

    /// Takes one step with `factor` times the learning rate, which the device skips if `found_inf`
    /// is not 0.
    pub fn step(&mut self, factor: f64, found_inf: Option<&Tensor>) {
        let lr = self.config.lr * factor;
        let momentum = self.config.momentum;
        let bad = found_inf.map(|found| found.gt(0.0));
        let unless_bad = |new: Tensor, old: &Tensor| match &bad {
            Some(bad) => old.where_self(bad, &new),
            None => new,
        };
        no_grad(|| {
            for group in &mut self.groups {
                let gradients = group.gradients();
                // m ← μm + (1 − μ)g; the step goes along μm + (1 − μ)g.
                let ahead = group.momentum.lerp(&gradients, 1.0 - momentum);
                let step = gradients.lerp(&ahead, momentum);
                group.momentum.copy_(&unless_bad(ahead, &group.momentum));
                let (rows, columns) = (step.size()[1] as f64, step.size()[2] as f64);
                // A tall matrix has more outputs than inputs; the factor keeps the size of each
                // output.
                let step = orthogonal(&step) * (-lr * (rows / columns).max(1.0).sqrt());
                for (param, step) in group.params.iter_mut().zip(step.unbind(0)) {
                    let moved = &*param * (1.0 - lr * self.weight_decay) + step.view_as(param);
                    param.copy_(&unless_bad(moved, param));
                }
            }
        });
    }

    /// The momentum, each in the shape of its matrix. A name consists of the parameter's and
    /// PyTorch's (`momentum_buffer`). The tensors share their storage with the optimizer's, so that
    /// a load writes into them.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let entries = self.groups.iter().flat_map(|group| {
            let buffers = group.momentum.unbind(0);
            group.names.iter().map(|name| format!("{name}.momentum_buffer")).zip(buffers)
        });
        entries.collect()
    }

    /// The tensors that [`Muon::state`] has for `parameter`, by name.
    #[must_use]
    pub fn forms(parameter: &Variable) -> Vec<(String, Form)> {
        let (rows, columns) = matrix_size(parameter);
        let momentum = Form { shape: vec![rows, columns], kind: Kind::Float };
        vec![(format!("{}.momentum_buffer", parameter.name), momentum)]
    }
}

impl Same {
    /// The gradients, `[weights, out, in · kernel]`; zeros for a weight that the loss does not
    /// depend on.
    fn gradients(&self) -> Tensor {
        let matrices: Vec<Tensor> =
            self.params.iter().map(|param| super::gradient(param).flatten(1, -1)).collect();
        Tensor::stack(&matrices, 0)
    }
}

/// Number of iterations.
const ITERATIONS: usize = 5;

/// Matrices with the singular vectors of `x` and singular values between 0.7 and 1.2, by the
/// quintic Newton-Schulz iteration X ← aX + (bA + cA²)X with A = XXᵀ. It tolerates bfloat16, which
/// is used on CUDA.
///
/// # Shapes
/// `[n, rows, columns]` -> the same shape, float32.
fn orthogonal(x: &Tensor) -> Tensor {
    let (a, b, c) = (3.4445, -4.7750, 2.0315);
    // The transpose makes A the smaller of the two products.
    let tall = x.size()[1] > x.size()[2];
    let wide = if tall { x.transpose(1, 2) } else { x.shallow_clone() };
    let length = wide.square().sum_dim_intlist([1, 2].as_slice(), true, Kind::Float).sqrt();
    let mut wide = wide / length.clamp_min(1e-7);
    if wide.device().is_cuda() {
        wide = wide.to_kind(Kind::BFloat16);
    }
    for _ in 0..ITERATIONS {
        let products = wide.bmm(&wide.transpose(1, 2));
        let mixed = products.baddbmm(&products, &products, b, c);
        wide = wide.baddbmm(&mixed, &wide, a, 1.0);
    }
    let wide = wide.to_kind(Kind::Float);
    if tall { wide.transpose(1, 2) } else { wide }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Init, Variables};
    use tch::Device;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn singular_values_are_near_one() {
        tch::manual_seed(1);
        for shape in [[2, 5, 40], [3, 40, 5], [1, 16, 16]] {
            let (_, values, _) = orthogonal(&Tensor::randn(shape, CPU)).svd(true, true);
            let (least, most) = (values.min().double_value(&[]), values.max().double_value(&[]));
            assert!(least > 0.2 && most < 1.3, "{shape:?}: from {least} to {most}");
        }
    }

    #[test]
    fn a_bad_step_changes_nothing() {
        let variables = Variables::new(Device::Cpu);
        let weight = variables.root(Component::Decoder).conv("conv", [4, 3, 1, 1], Init::Ones);
        let mut muon = Muon::new(&Config::default(), 0.1, variables.entries());
        let mut step = |slope: f64, found_inf: f32| {
            weight.shallow_clone().zero_grad();
            (&weight * slope).sum(Kind::Float).backward();
            muon.step(1.0, Some(&Tensor::from(found_inf)));
            (weight.detach().copy(), muon.state()["conv.momentum_buffer"].copy())
        };
        let good = step(1.0, 0.0);
        assert!(good.0.max().double_value(&[]) < 1.0 && good.1.min().double_value(&[]) > 0.0);
        assert_eq!(step(f64::NAN, 1.0), good);
        assert_ne!(step(1.0, 0.0), good);
    }

    #[test]
    fn hidden_are_the_weights_between_features() {
        let variables = Variables::new(Device::Cpu);
        for component in Component::TOKENIZER {
            let scope = variables.scope(component);
            let _ = scope.conv("conv", [4, 5, 3, 3], Init::Ones);
            let _ = scope.matrix("matrix", [4, 5], Init::Ones);
            let _ = scope.touching_pixels().conv("pixels", [4, 3, 3, 3], Init::Ones);
            let _ = scope.touching_pixels().matrix("patches", [4, 48], Init::Ones);
            let _ = scope.norm("norm", &[4, 1, 1, 1], Init::Ones);
            let _ = scope.bias("bias", 4, Init::Ones);
            let _ = scope.codebook("codebook", [4, 5], Init::Ones);
            let _ = scope.embedding("embedding", [4, 5], Init::Ones);
        }
        let hidden = variables.entries().into_iter().filter(is_hidden).map(|found| found.name);
        let expected = ["decoder.conv", "decoder.matrix", "encoder.conv", "encoder.matrix"];
        assert_eq!(hidden.collect::<Vec<_>>(), expected);
    }
}
