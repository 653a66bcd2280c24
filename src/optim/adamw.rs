//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) through libtorch's fused kernel.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Config, OptimError, gradient};
use crate::variables::Variable;
use pixtok_torch::tensors::Form;
use pixtok_torch::{AdamwStep, AdamwTensors, fused_adamw};

/// One call of the fused kernel, for parameters with the same weight decay.
#[derive(Debug, Default)]
struct Group {
    names: Vec<String>,
    params: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: Vec<Tensor>,
    weight_decay: f64,
}

/// AdamW for a list of parameters. Its moments are saved and loaded by name.
#[derive(Debug)]
pub struct Adamw {
    config: Config,
    groups: Vec<Group>,
}

impl Adamw {
    /// An optimizer of `parameters`, with zero moments.
    #[must_use]
    pub fn new(config: &Config, mut parameters: Vec<Variable>) -> Self {
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let mut decaying = Group { weight_decay: config.weight_decay, ..Group::default() };
        let mut plain = Group::default();
        for parameter in parameters {
            let group = if config.decayed.takes(&parameter) { &mut decaying } else { &mut plain };
            let Variable { name, tensor: param, .. } = parameter;
            group.first.push(param.zeros_like().set_requires_grad(false));
            group.second.push(param.zeros_like().set_requires_grad(false));
            group.steps.push(Tensor::zeros([], (Kind::Float, param.device())));
            group.names.push(name);
            group.params.push(param);
        }
        let groups = [decaying, plain].into_iter().filter(|group| !group.params.is_empty()).collect();
        Self { config: config.clone(), groups }
    }

    /// The tensors that [`Adamw::state`] has for `parameter`, by name.
    #[must_use]
    pub fn forms(parameter: &Variable) -> Vec<(String, Form)> {
        let moment = Form::of(&parameter.tensor);
        let step = Form { shape: vec![], kind: Kind::Float };
        let parts = [("exp_avg", moment.clone()), ("exp_avg_sq", moment), ("step", step)];
        parts.map(|(part, form)| (format!("{}.{part}", parameter.name), form)).into()
    }

    /// Takes one step with `lr` (including the schedule's factor), which the device skips if
    /// `found_inf` is not 0.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn step(&mut self, lr: f64, found_inf: Option<&Tensor>) -> Result<(), OptimError> {
        for group in &self.groups {
            let tensors = AdamwTensors {
                params: &group.params,
                grads: &group.grads(),
                first: &group.first,
                second: &group.second,
                steps: &group.steps,
            };
            let step = AdamwStep {
                lr,
                betas: self.config.betas,
                weight_decay: group.weight_decay,
                eps: self.config.eps,
            };
            fused_adamw(&tensors, step, found_inf)?;
        }
        Ok(())
    }

    /// Clears the moments of the rows of parameter `name` where `mask` (`[rows]` bool) holds.
    pub fn clear_rows(&mut self, name: &str, mask: &Tensor) {
        for group in &mut self.groups {
            let Some(i) = group.names.iter().position(|found| found == name) else { continue };
            for moment in [&mut group.first[i], &mut group.second[i]] {
                let mut shape = vec![1; moment.dim()];
                shape[0] = -1;
                let _ = moment.masked_fill_(&mask.view(shape.as_slice()), 0.0);
            }
        }
    }

    /// Moments and step counts. A name consists of the parameter's and PyTorch's (`exp_avg`,
    /// `exp_avg_sq`, `step`). The tensors share their storage with the optimizer's, so that a load
    /// writes into them.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let entries = self.groups.iter().flat_map(|group| {
            let named = group.names.iter().enumerate();
            named.flat_map(|(i, name)| {
                [("exp_avg", &group.first[i]), ("exp_avg_sq", &group.second[i]), ("step", &group.steps[i])]
                    .map(|(part, tensor)| (format!("{name}.{part}"), tensor.shallow_clone()))
            })
        });
        entries.collect()
    }
}

impl Group {
    fn grads(&self) -> Vec<Tensor> {
        self.params.iter().map(gradient).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decayed;
    use super::*;
    use crate::variables::{Component, Init, Scope, Variables};
    use pixtok_torch::no_grad;
    use tch::{Device, nn, nn::OptimizerConfig};

    /// The variables that `make` makes.
    fn ones(make: impl Fn(Scope)) -> Vec<Variable> {
        let variables = Variables::new(Device::Cpu);
        make(variables.root(Component::Decoder));
        variables.entries()
    }

    /// Two variables with gradients, and a tch optimizer over the same values.
    #[test]
    fn agrees_with_libtorchs_own_adamw_step_for_step() {
        let config = Config { decayed: Decayed::All, weight_decay: 0.1, ..Config::default() };
        let vs = nn::VarStore::new(Device::Cpu);
        let a = vs.root().var("a", &[5, 7], nn::Init::Const(0.3));
        let b = vs.root().var("b", &[7], nn::Init::Const(-0.2));
        let mut reference =
            nn::AdamW { wd: 0.1, beta1: 0.9, beta2: 0.95, ..nn::AdamW::default() }.build(&vs, 1e-3).unwrap();
        let variables = ones(|scope| {
            let _ = scope.matrix("a", [5, 7], Init::Ones);
            let _ = scope.bias("b", 7, Init::Ones);
        });
        let [our_a, our_b] = [0, 1].map(|i| variables[i].tensor.shallow_clone());
        no_grad(|| [(&our_a, &a), (&our_b, &b)].map(|(ours, theirs)| ours.shallow_clone().copy_(theirs)));
        let mut ours = Adamw::new(&config, variables);
        for step in 0..10 {
            let loss = |a: &Tensor, b: &Tensor| ((a * b).sin() * f64::from(step)).sum(Kind::Float);
            reference.zero_grad();
            loss(&a, &b).backward();
            reference.step();
            for param in [&our_a, &our_b] {
                param.shallow_clone().zero_grad();
            }
            loss(&our_a, &our_b).backward();
            ours.step(1e-3, None).unwrap();
            for (x, y) in [(&a, &our_a), (&b, &our_b)] {
                let difference = (x - y).abs().max().double_value(&[]);
                assert!(difference <= 1e-6 * x.abs().max().double_value(&[]), "step {step}: {difference}");
            }
        }
    }

    #[test]
    fn decay_spares_biases_norms_and_codebooks() {
        let variables = ones(|scope| {
            let _ = scope.conv("conv", [2, 3, 5, 1], Init::Ones);
            let _ = scope.matrix("matrix", [2, 3], Init::Ones);
            let _ = scope.norm("norm", &[3], Init::Ones);
            let _ = scope.norm("weight", &[3, 1, 1], Init::Ones);
            let _ = scope.bias("bias", 3, Init::Ones);
            let _ = scope.codebook("codebook", [4, 2], Init::Ones);
            let _ = scope.embedding("embedding", [5, 2], Init::Ones);
        });
        let kept: Vec<Variable> = variables.iter().map(Variable::shallow_clone).collect();
        let mut adamw = Adamw::new(&Config { weight_decay: 0.5, ..Config::default() }, variables);
        // Without gradients, only weight decay changes the parameters.
        adamw.step(0.1, None).unwrap();
        for Variable { name, tensor, .. } in kept {
            let expected = if ["conv", "matrix"].contains(&name.as_str()) { 0.95f32 } else { 1.0 };
            assert_eq!(tensor.max().double_value(&[]) as f32, expected, "{name}");
        }
    }

    #[test]
    fn cleared_rows_lose_their_moments() {
        let variables = ones(|scope| drop(scope.codebook("codebook", [3, 2], Init::Ones)));
        let param = variables[0].tensor.shallow_clone();
        let mut adamw = Adamw::new(&Config::default(), variables);
        param.square().sum(Kind::Float).backward();
        adamw.step(0.1, None).unwrap();
        adamw.clear_rows("codebook", &Tensor::from_slice(&[false, true, false]));
        let first = &adamw.state()["codebook.exp_avg"];
        let expected = Tensor::from_slice(&[0.2f32, 0.2, 0.0, 0.0, 0.2, 0.2]).view([3, 2]);
        assert!((first - expected).abs().max().double_value(&[]) < 1e-6);
    }
}
