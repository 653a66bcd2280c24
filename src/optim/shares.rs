//! Divides the state of the optimizers over the processes: stage 1 of ZeRO (Rajbhandari et al.
//! 2020, arXiv 1910.02054).
//!
//! Whole parameters are dealt to the processes. Each process keeps the moments and the averages of
//! its own parameters, updates these, and sends them to the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::variables::Variable;
use crate::world::{World, WorldError};
use pixtok_torch::no_grad;
use pixtok_torch::tensors::{CopyError, Form, Tensors, copy_share_into, not_finite};

/// The process that writes checkpoints.
const WRITER: u32 = 0;

/// The most bytes that are collected at once, unless a single tensor is larger.
const COLLECTED_BYTES: usize = 64 << 20;

/// The most numbers that all processes together send at once.
const SPREAD_NUMBERS: i64 = 16 << 20;

/// How the processes share the state of the optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// The rank of this process among those that divide the state.
    rank: u32,
    /// Their number; 1 if each process keeps the whole state.
    size: u32,
}

impl Sharing {
    /// Each process keeps the whole state.
    pub const WHOLE: Self = Self { rank: 0, size: 1 };

    /// `size` processes divide the state among them, and this is process `rank`.
    #[must_use]
    pub fn divided(rank: u32, size: u32) -> Self {
        Self { rank, size }
    }
}

/// Parameters, each with its owner: the process that keeps its state and updates it.
#[derive(Debug)]
pub(super) struct Shares {
    sharing: Sharing,
    parameters: Vec<(Variable, u32)>,
}

impl Shares {
    /// Deals `parameters`, which have the same order in every process.
    pub fn deal(parameters: Vec<Variable>, sharing: Sharing) -> Self {
        let sizes: Vec<i64> = parameters.iter().map(Variable::count).collect();
        let owners = owners(&sizes, sharing.size);
        Self { sharing, parameters: parameters.into_iter().zip(owners).collect() }
    }

    /// All parameters, in the order in which they were dealt.
    pub fn all(&self) -> impl Iterator<Item = &Variable> {
        self.parameters.iter().map(|(parameter, _)| parameter)
    }

    /// Those of this process, in the same order.
    pub fn own(&self) -> impl Iterator<Item = &Variable> {
        let rank = self.sharing.rank;
        let own = self.parameters.iter().filter(move |(_, owner)| *owner == rank);
        own.map(|(parameter, _)| parameter)
    }

    /// Copies each parameter, which are all float32, from its owner to all processes. Does nothing
    /// if nothing is divided.
    ///
    /// The numbers of each owner are a line. In every exchange all processes send a piece of their
    /// line, so the number of exchanges does not grow with the number of processes.
    pub fn spread(&self, world: &World) -> Result<(), WorldError> {
        if self.sharing == Sharing::WHOLE {
            return Ok(());
        }
        let lines: Vec<Line> = (0..self.sharing.size).map(|owner| self.line_of(owner)).collect();
        let longest = lines.iter().map(Line::numbers).max().unwrap_or(0);
        let piece = (SPREAD_NUMBERS / i64::from(self.sharing.size)).max(1);
        for first in (0..longest).step_by(piece as usize) {
            let count = piece.min(longest - first);
            let own = lines[self.sharing.rank as usize].read(first, count);
            let all = world.gather_as_many(&own)?;
            for (owner, line) in (0..).zip(&lines).filter(|(owner, _)| *owner != self.sharing.rank) {
                line.write(first, &all.narrow(0, i64::from(owner) * count, count));
            }
        }
        Ok(())
    }

    /// The parameters of a process.
    fn line_of(&self, owner: u32) -> Line {
        let owned = self.parameters.iter().filter(|(_, own)| *own == owner);
        let device = self.parameters.first().map_or(Device::Cpu, |(parameter, _)| parameter.tensor.device());
        Line { tensors: owned.map(|(parameter, _)| in_memory_order(&parameter.tensor)).collect(), device }
    }

    /// The state of all parameters. `forms` lists the tensors that belong to a parameter; `own` are
    /// those of this process's parameters.
    pub fn state(&self, forms: impl Fn(&Variable) -> Vec<(String, Form)>, mut own: Tensors) -> SharedState {
        let mut tensors = BTreeMap::new();
        for (parameter, owner) in &self.parameters {
            let device = parameter.tensor.device();
            for (name, form) in forms(parameter) {
                let tensor = own.remove(&name);
                tensors.insert(name, SharedTensor { owner: *owner, form, device, tensor });
            }
        }
        SharedState { divided: self.sharing != Sharing::WHOLE, tensors }
    }
}

/// The numbers of a dense tensor in one axis, in their order in memory. They share its storage.
fn in_memory_order(tensor: &Tensor) -> Tensor {
    tensor.detach().as_strided([tensor.numel() as i64], [1], None)
}

/// Float32 tensors of one axis, as if they were one after another.
#[derive(Debug)]
struct Line {
    tensors: Vec<Tensor>,
    device: Device,
}

impl Line {
    fn numbers(&self) -> i64 {
        self.tensors.iter().map(|tensor| tensor.numel() as i64).sum()
    }

    /// The parts of the tensors between the places `first` and `first + count`.
    fn parts(&self, first: i64, count: i64) -> Vec<Tensor> {
        let mut start = 0;
        let mut parts = vec![];
        for tensor in &self.tensors {
            let end = start + tensor.numel() as i64;
            let (from, to) = (first.max(start), (first + count).min(end));
            if from < to {
                parts.push(tensor.narrow(0, from - start, to - from));
            }
            start = end;
        }
        parts
    }

    /// The numbers from `first` on, with zeros after the end: `[count]`.
    fn read(&self, first: i64, count: i64) -> Tensor {
        let mut parts = self.parts(first, count);
        let there: i64 = parts.iter().map(|part| part.numel() as i64).sum();
        parts.push(Tensor::zeros([count - there], (Kind::Float, self.device)));
        Tensor::cat(&parts, 0)
    }

    /// Replaces the numbers from `first` on by those of `piece`, `[count]`, as far as there are any.
    fn write(&self, first: i64, piece: &Tensor) {
        let mut place = 0;
        for mut part in self.parts(first, piece.numel() as i64) {
            let count = part.numel() as i64;
            no_grad(|| part.copy_(&piece.narrow(0, place, count)));
            place += count;
        }
    }
}

/// The owner of each parameter, given their sizes: from the largest to the smallest, each goes to
/// the process that has the least so far.
fn owners(sizes: &[i64], processes: u32) -> Vec<u32> {
    let mut largest_first: Vec<usize> = (0..sizes.len()).collect();
    largest_first.sort_by_key(|&i| Reverse(sizes[i]));
    let mut loads = vec![0i64; processes as usize];
    let mut owners = vec![0; sizes.len()];
    for i in largest_first {
        // Of equally loaded processes, the first.
        let least = (0..loads.len()).min_by_key(|&process| loads[process]).unwrap_or_default();
        loads[least] += sizes[i];
        owners[i] = least as u32;
    }
    owners
}

/// The named tensors of a state as one process sees it, which may keep only some of them.
#[derive(Debug)]
pub struct SharedState {
    /// Whether processes divide it; otherwise each keeps all of it.
    divided: bool,
    tensors: BTreeMap<String, SharedTensor>,
}

#[derive(Debug)]
struct SharedTensor {
    owner: u32,
    form: Form,
    device: Device,
    /// The numbers, if this process keeps them.
    tensor: Option<Tensor>,
}

impl SharedTensor {
    /// The numbers, or room for them.
    fn tensor_or_room(&self) -> Tensor {
        match &self.tensor {
            Some(tensor) => tensor.shallow_clone(),
            None => Tensor::zeros(self.form.shape.as_slice(), (self.form.kind, self.device)),
        }
    }

    fn bytes(&self) -> usize {
        self.form.shape.iter().product::<i64>() as usize * self.form.kind.elt_size_in_bytes()
    }
}

impl SharedState {
    /// All of some states. No name is in two of them.
    #[must_use]
    pub fn joined(states: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self { divided: false, tensors: BTreeMap::new() };
        for state in states {
            all.divided |= state.divided;
            all.tensors.extend(state.tensors);
        }
        all
    }

    /// Whether one of the tensors is called `name`, whoever keeps it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensors that this process keeps. They share their storage with the state's own.
    #[must_use]
    pub fn own(&self) -> Tensors {
        let own = self.tensors.iter().filter_map(|(name, found)| Some((name, found.tensor.as_ref()?)));
        own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// The name of the first tensor that has a NaN or an infinity, whoever keeps it. If the state
    /// is divided, every process has to ask, and all get the same answer.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn not_finite(&self, world: &World) -> Result<Option<String>, WorldError> {
        let own = self.own();
        let bad = not_finite(&own);
        let Some(first) = self.tensors.values().next().filter(|_| self.divided) else {
            return Ok(bad.map(str::to_owned));
        };
        // Each process tells the place of the first that it finds; the least place is the answer.
        let place = self.tensors.keys().position(|name| Some(name.as_str()) == bad);
        let place = place.unwrap_or(self.tensors.len()) as i64;
        let places = world.gather(&Tensor::from_slice(&[place]).to_device(first.device))?;
        Ok(self.tensors.keys().nth(places.min().int64_value(&[]) as usize).cloned())
    }

    /// The tensors for a checkpoint: in the process that writes it all of them, in the others those
    /// that they keep. If the state is divided, every process has to take part. Those that this
    /// process keeps share their storage with the state's own; the others are in host memory.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn collect(&self, world: &World) -> Result<Tensors, WorldError> {
        let mut collected = self.own();
        let elsewhere: Vec<(&String, &SharedTensor)> =
            self.tensors.iter().filter(|(_, found)| found.owner != WRITER).collect();
        for chunk in chunks(elsewhere, COLLECTED_BYTES, |(_, found)| found.bytes()) {
            let sent: Vec<(Tensor, u32)> =
                chunk.iter().map(|(_, found)| (found.tensor_or_room(), found.owner)).collect();
            world.broadcast_each(&sent)?;
            if world.writes() {
                let names = chunk.into_iter().map(|(name, _)| name.clone());
                collected.extend(names.zip(sent.iter().map(|(tensor, _)| tensor.to_device(Device::Cpu))));
            }
        }
        Ok(collected)
    }

    /// Writes saved tensors into those that this process keeps. The names and shapes of all must
    /// match, whoever keeps them; otherwise nothing is written.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn restore(&self, saved: &Tensors) -> Result<(), CopyError> {
        let forms = self.tensors.iter().map(|(name, found)| (name.clone(), found.form.clone())).collect();
        copy_share_into(&forms, &self.own(), saved)
    }
}

/// Splits `items` into chunks of at most `limit` bytes. A larger item is a chunk of its own.
fn chunks<T>(items: Vec<T>, limit: usize, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = vec![];
    let mut filled = 0;
    for item in items {
        let size = bytes(&item);
        match chunks.last_mut() {
            Some(chunk) if filled + size <= limit => {
                filled += size;
                chunk.push(item);
            }
            _ => {
                filled = size;
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Init, Variables};

    #[test]
    fn the_largest_parameters_are_dealt_first() {
        // 9 | 5 | 4, then 3 to the 4, then 1 to the 5.
        assert_eq!(owners(&[4, 9, 1, 5, 3], 3), [2, 0, 1, 1, 2]);
        // Of equals, the first parameter and the first process.
        assert_eq!(owners(&[2, 2, 2, 2], 2), [0, 1, 0, 1]);
        assert_eq!(owners(&[4, 9, 1, 5, 3], 1), [0; 5]);
        assert_eq!(owners(&[7], 3), [0]);
        assert!(owners(&[], 2).is_empty());
    }

    #[test]
    fn a_line_is_read_and_written_across_its_tensors() {
        let cpu = (Kind::Float, Device::Cpu);
        // In memory, the second has its rows side by side.
        let tensors = [Tensor::arange(3, cpu), Tensor::arange(6, cpu).view([2, 3]).tr() + 10.0];
        let line = Line { tensors: tensors.each_ref().map(in_memory_order).into(), device: Device::Cpu };
        assert_eq!(line.numbers(), 9);
        assert_eq!(line.read(1, 4), Tensor::from_slice(&[1f32, 2.0, 10.0, 11.0]));
        assert_eq!(line.read(7, 4), Tensor::from_slice(&[14f32, 15.0, 0.0, 0.0]));
        line.write(2, &Tensor::from_slice(&[-1f32, -2.0, -3.0]));
        line.write(8, &Tensor::from_slice(&[-4f32, 7.0]));
        assert_eq!(tensors[0], Tensor::from_slice(&[0f32, 1.0, -1.0]));
        assert_eq!(tensors[1], Tensor::from_slice(&[-2f32, -3.0, 12.0, 13.0, 14.0, -4.0]).view([2, 3]).tr());
        assert_eq!(line.read(20, 2), Tensor::zeros([2], cpu));
    }

    #[test]
    fn every_parameter_has_one_owner_and_the_loads_are_even() {
        let sizes: Vec<i64> = (1..=200).map(|i| i * i % 997).collect();
        for processes in [2, 3, 8] {
            let owners = owners(&sizes, processes);
            let load = |process: u32| -> i64 {
                sizes.iter().zip(&owners).filter(|(_, owner)| **owner == process).map(|(size, _)| size).sum()
            };
            let loads: Vec<i64> = (0..processes).map(load).collect();
            assert_eq!(loads.iter().sum::<i64>(), sizes.iter().sum::<i64>());
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least < 997, "{loads:?}");
        }
    }

    #[test]
    fn what_is_collected_comes_in_chunks() {
        let of = |sizes: &[usize]| chunks(sizes.to_vec(), 10, |size| *size);
        assert_eq!(of(&[4, 6, 1, 12, 0, 9, 1, 1]), [vec![4, 6], vec![1], vec![12], vec![0, 9, 1], vec![1]]);
        assert!(of(&[]).is_empty());
    }

    /// A state of copies of three parameters, as process `rank` of two has it.
    fn state(rank: u32) -> SharedState {
        let variables = Variables::new(Device::Cpu);
        let scope = variables.root(Component::Encoder);
        for (name, rows) in [("a", 2), ("b", 5), ("c", 3)] {
            let _ = scope.matrix(name, [rows, 4], Init::Ones);
        }
        let shares = Shares::deal(variables.entries(), Sharing::divided(rank, 2));
        let own = shares.own().map(|found| (found.name.clone(), found.tensor.detach().copy())).collect();
        shares.state(|found| vec![(found.name.clone(), Form::of(&found.tensor))], own)
    }

    #[test]
    fn a_process_restores_its_own_and_checks_all() {
        let filled = |rows: i64| Tensor::full([rows, 4], 3.0, (Kind::Float, Device::Cpu));
        let saved: Tensors =
            [("a", 2), ("b", 5), ("c", 3)].map(|(name, rows)| (name.to_owned(), filled(rows))).into();
        for (rank, names) in [(0, vec!["b"]), (1, vec!["a", "c"])] {
            let state = state(rank);
            let own = state.own();
            assert_eq!(own.keys().collect::<Vec<_>>(), names);
            assert!(["a", "b", "c"].iter().all(|name| state.has(name)) && !state.has("d"));

            let mut lacking: Tensors =
                saved.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
            let last = lacking.remove("c").unwrap();
            let message = state.restore(&lacking).unwrap_err().to_string();
            assert!(message.contains("1 missing (\"c\")"), "{message}");
            lacking.insert("c".to_owned(), last.tr());
            let message = state.restore(&lacking).unwrap_err().to_string();
            assert!(message.contains("\"c\" is [4, 3] Float there, [3, 4] Float here"), "{message}");
            assert!(own.values().all(|tensor| tensor.max().double_value(&[]) == 1.0));

            state.restore(&saved).unwrap();
            assert!(own.iter().all(|(name, tensor)| *tensor == saved[name]));
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_named() {
        let (world, state) = (World::single(), state(1));
        assert_eq!(state.not_finite(&world).unwrap(), None);
        let _ = state.own()["c"].shallow_clone().fill_(f64::NAN);
        assert_eq!(state.not_finite(&world).unwrap().as_deref(), Some("c"));
    }
}
