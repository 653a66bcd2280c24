//! Processes that divide the state of an optimizer train like one that keeps all of it.

use tch::{Device, Kind};

use super::*;
use crate::variables::{Component, Init, Variables};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_torch::tensors::Tensors;
use pixtok_torch::{no_grad, reseed};

/// The optimizers of processes, and the parameters that all of them see: what they change is there
/// for the others at once, as after [`Optimizer::spread`].
struct Team {
    parameters: Vec<Variable>,
    optimizers: Vec<Optimizer>,
    averages: Vec<WeightAverage>,
}

impl Team {
    /// A process for each of `sharings`. The parameters start as copies of `values`.
    fn new(config: &Config, values: &[Variable], sharings: &[Sharing]) -> Self {
        let parameters: Vec<Variable> = values
            .iter()
            .map(|value| {
                let tensor = value.tensor.detach().copy().set_requires_grad(true);
                Variable { tensor, ..value.shallow_clone() }
            })
            .collect();
        let seen = || -> Vec<Variable> { parameters.iter().map(Variable::shallow_clone).collect() };
        let optimizers = sharings.iter().map(|sharing| Optimizer::new(config, seen(), *sharing)).collect();
        let averages = sharings.iter().map(|sharing| WeightAverage::new(0.9, seen(), *sharing)).collect();
        Self { parameters, optimizers, averages }
    }

    fn step(&mut self, step: u64) {
        self.optimizers[0].drop_grads().unwrap();
        for Variable { name, tensor, .. } in &self.parameters {
            // The loss does not depend on this one.
            if name != "unused" {
                (tensor * (1.0 + step as f64)).sin().sum(Kind::Float).backward();
            }
        }
        let _ = self.optimizers[0].clip().unwrap();
        for optimizer in &mut self.optimizers {
            optimizer.step(0.5, None).unwrap();
        }
        for average in &mut self.averages {
            average.update(step);
        }
        if step == 2 {
            let mask = Tensor::from_slice(&[false, true, false, false, true, false]);
            self.optimizers.iter_mut().for_each(|optimizer| optimizer.clear_rows("codebook", &mask));
            self.averages.iter_mut().for_each(|average| average.copy_rows("codebook", &mask));
        }
    }

    /// Parameters, moments and averages, each of which exactly one process keeps.
    fn tensors(&self) -> [Tensors; 3] {
        let parameters = self.parameters.iter().map(|found| (found.name.clone(), found.tensor.detach()));
        [
            parameters.collect(),
            joined(self.optimizers.iter().map(Optimizer::state)),
            joined(self.averages.iter().map(WeightAverage::state)),
        ]
    }

    fn restore(&self, [_, moments, averages]: &[Tensors; 3]) {
        self.optimizers.iter().for_each(|optimizer| optimizer.state().restore(moments).unwrap());
        self.averages.iter().for_each(|average| average.state().restore(averages).unwrap());
    }
}

/// Copies of all tensors of a state, which is given as each process has it.
fn joined(states: impl Iterator<Item = SharedState>) -> Tensors {
    let states: Vec<SharedState> = states.collect();
    let mut all = Tensors::new();
    for (name, tensor) in states.iter().flat_map(SharedState::own) {
        let earlier = all.insert(name.clone(), tensor.copy());
        assert!(earlier.is_none(), "two processes keep {name}");
    }
    for state in states {
        // Each process knows the names and shapes of all.
        state.restore(&all).unwrap();
    }
    all
}

/// Parameters of every role, with values from a seed.
fn parameters() -> Vec<Variable> {
    reseed(Seed(3));
    let variables = Variables::new(Device::Cpu);
    let scope = variables.root(Component::Decoder);
    let init = Init::Gaussian { mean: 0.0, deviation: 1.0 };
    for name in ["conv1", "conv2", "conv3"] {
        let _ = scope.conv(name, [4, 5, 3, 3], init);
    }
    let _ = scope.matrix("matrix", [7, 5], init);
    let _ = scope.norm("norm", &[5], init);
    let _ = scope.bias("bias", 7, init);
    let _ = scope.bias("unused", 3, init);
    let _ = scope.codebook("codebook", [6, 2], init);
    variables.entries()
}

fn divided(size: u32) -> Vec<Sharing> {
    (0..size).map(|rank| Sharing::divided(rank, size)).collect()
}

fn adamw() -> Config {
    Config { weight_decay: 0.1, clip_norm: 0.5, ..Config::default() }
}

#[test]
fn a_divided_step_is_the_whole_one_bit_for_bit() {
    let values = parameters();
    let mut whole = Team::new(&adamw(), &values, &[Sharing::WHOLE]);
    let mut teams: Vec<Team> = [1, 2, 3, 20].map(|size| Team::new(&adamw(), &values, &divided(size))).into();
    for step in 0..5 {
        whole.step(step);
        for team in &mut teams {
            team.step(step);
            assert_eq!(team.tensors(), whole.tensors(), "{} processes, step {step}", team.optimizers.len());
        }
    }
    let moved = whole.parameters.iter().zip(&values).filter(|(now, then)| now.tensor != then.tensor);
    assert_eq!(moved.count(), values.len() - 1, "all but the unused one");
}

#[test]
fn muon_divides_whole_matrices() {
    let config = Config { muon: Some(muon::Config::default()), ..adamw() };
    let values = parameters();
    let mut whole = Team::new(&config, &values, &[Sharing::WHOLE]);
    let mut team = Team::new(&config, &values, &divided(3));
    for step in 0..5 {
        whole.step(step);
        team.step(step);
    }
    for (ours, expected) in team.tensors().iter().zip(whole.tensors()) {
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, tensor) in ours {
            // A product of fewer matrices at once may add up in another order.
            assert!(tensor.allclose(&expected[name], 1e-4, 1e-5, false), "{name}");
        }
    }
    let kept = |name: &str| team.optimizers.iter().filter(|one| one.state().own().contains_key(name)).count();
    for name in ["conv1", "conv2", "conv3", "matrix"] {
        assert_eq!(kept(&format!("{name}.momentum_buffer")), 1, "{name}");
    }
}

#[test]
fn a_checkpoint_resumes_with_any_number_of_processes() {
    let (config, values) = (adamw(), parameters());
    let mut undisturbed = Team::new(&config, &values, &[Sharing::WHOLE]);
    let mut first = Team::new(&config, &values, &divided(2));
    for step in 0..3 {
        undisturbed.step(step);
        first.step(step);
    }
    let saved = first.tensors();
    for step in 3..6 {
        undisturbed.step(step);
    }
    for sharings in [vec![Sharing::WHOLE], divided(2), divided(3), divided(5)] {
        let mut resumed = Team::new(&config, &first.parameters, &sharings);
        resumed.restore(&saved);
        assert_eq!(resumed.tensors(), saved);
        for step in 3..6 {
            resumed.step(step);
        }
        assert_eq!(resumed.tensors(), undisturbed.tensors(), "{sharings:?}");
    }
}

#[test]
fn a_single_process_collects_what_it_keeps() {
    let team = Team::new(&adamw(), &parameters(), &[Sharing::WHOLE]);
    let world = World::single();
    let (optimizer, average) = (&team.optimizers[0], &team.averages[0]);
    for state in [optimizer.state(), average.state()] {
        assert_eq!(state.collect(&world).unwrap(), state.own());
    }
    optimizer.spread(&world).unwrap();
    let averages = average.state().own();
    let _ = no_grad(|| averages["norm"].shallow_clone().fill_(2.0));
    let _in_place = average.put_in_place(&world).unwrap();
    let norm = team.parameters.iter().find(|found| found.name == "norm").unwrap();
    assert_eq!(norm.tensor, averages["norm"]);
}

#[test]
fn roles_not_names_divide_a_transformer_between_the_optimizers() {
    let variables = Variables::new(Device::Cpu);
    let (scope, init) = (variables.scope(Component::Encoder), Init::Ones);
    let pixels = scope.touching_pixels();
    // A matrix is one whatever its name and whichever its shape.
    let muon = [("qkv", [12, 4]), ("out", [4, 4]), ("embedding", [16, 4]), ("head", [2, 4])];
    for (name, shape) in muon {
        let _ = scope.matrix(name, shape, init);
    }
    let _ = pixels.matrix("patches", [4, 48], init);
    let _ = pixels.bias("patches.bias", 4, init);
    for (name, vectors) in [("positions", 35), ("registers", 2), ("weight", 5)] {
        let _ = scope.embedding(name, [vectors, 4], init);
    }
    let _ = scope.norm("norm", &[4], init);
    let _ = scope.norm("scale1", &[4], init);
    let config = Config { muon: Some(muon::Config::default()), ..adamw() };
    let state = Optimizer::new(&config, variables.entries(), Sharing::WHOLE).state();
    let with = |ending: &str| -> Vec<String> {
        state.own().keys().filter_map(|name| Some(name.strip_suffix(ending)?.to_owned())).collect()
    };
    let named = |names: &[&str]| names.iter().map(|name| format!("encoder.{name}")).collect::<Vec<_>>();
    assert_eq!(with(".momentum_buffer"), named(&["embedding", "head", "out", "qkv"]));
    let adamw = ["norm", "patches.bias", "patches", "positions", "registers", "scale1", "weight"];
    assert_eq!(with(".exp_avg"), named(&adamw));
}
