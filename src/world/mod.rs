//! The processes that train together, as one of them sees them.
//!
//! A [`World`] is made once, at the start, and handed to everything that would differ between
//! processes: which share of the batches to load, what to sum over all, who writes. There is one
//! process so far ([`World::single`]), so each sum is its own argument.

mod launch;

use tch::Tensor;

pub use launch::Launch;
use launch::KUBERNETES;

use pixtok_base::{Class, Classified};

/// The processes that train together, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    rank: u32,
    size: u32,
}

/// Processes could not exchange their numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// Only a world of one process can be made so far.
    #[error("{size} processes train together, and they can exchange no numbers yet; train in one process")]
    NoExchange {
        /// How many there are.
        size: u32,
    },
}

impl Classified for WorldError {
    fn class(&self) -> Class {
        Class::Failed
    }
}

impl World {
    /// A single process.
    #[must_use]
    pub fn single() -> Self {
        Self { rank: 0, size: 1 }
    }

    /// The world of a training, and a note if the launcher started several processes: so far each
    /// of them trains by itself. `variable` looks an environment variable up.
    #[must_use]
    pub fn of_training(variable: impl Fn(&str) -> Option<String>) -> (Self, Option<String>) {
        // The completions of a Kubernetes job don't know one another.
        let launch = Launch::find(variable).filter(|launch| launch.launcher != KUBERNETES);
        let note = launch.and_then(|launch| match launch.numbers()? {
            (_, 1) => None,
            (rank, size) => Some(format!(
                "{} started {size} processes, of which this is number {rank} ({}); each trains by itself, since \
                 one training in several processes is not possible yet",
                launch.launcher, launch.index.0
            )),
        });
        (Self::single(), note)
    }

    /// The number of this process, counted from 0.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// The number of processes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether this process writes logs and checkpoints.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.rank == 0
    }

    /// The place in the whole batch of a step of this process's sample `own`, if each process has
    /// this number of `samples` in the step. Those of a process are next to each other, as the
    /// loader's share of a process has it.
    #[must_use]
    pub fn place(&self, own: u64, samples: u64) -> u64 {
        samples * u64::from(self.rank) + own
    }

    /// The sum of a tensor over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum(&self, tensor: &Tensor) -> Result<Tensor, WorldError> {
        self.check_single()?;
        Ok(tensor.shallow_clone())
    }

    /// The sum of a number over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum_of(&self, number: i64) -> Result<i64, WorldError> {
        self.check_single()?;
        Ok(number)
    }

    /// The sum of each number over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum_each<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N], WorldError> {
        let sums = self.sum(&Tensor::from_slice(&numbers))?;
        Ok(std::array::from_fn(|i| sums.double_value(&[i as i64])))
    }

    /// The rows of all processes, one process after the other.
    ///
    /// # Shapes
    /// `[n, …]`, where only n may differ between processes -> `[Σn, …]`.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn gather(&self, rows: &Tensor) -> Result<Tensor, WorldError> {
        self.check_single()?;
        Ok(rows.shallow_clone())
    }

    /// The mean of a tensor over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn mean(&self, tensor: &Tensor) -> Result<Tensor, WorldError> {
        self.check_single()?;
        Ok(tensor.shallow_clone())
    }

    /// Replaces the gradient of each parameter by its mean over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn mean_gradients<'a>(
        &self,
        _parameters: impl Iterator<Item = &'a Tensor>,
    ) -> Result<(), WorldError> {
        self.check_single()
    }

    /// Whether `flag` is set in any process, so that all of them decide the same.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn any(&self, flag: bool) -> Result<bool, WorldError> {
        self.check_single()?;
        Ok(flag)
    }

    /// Refuses several processes, since they cannot exchange values yet.
    fn check_single(&self) -> Result<(), WorldError> {
        if self.size == 1 { Ok(()) } else { Err(WorldError::NoExchange { size: self.size }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(variables: &[(&str, &str)]) -> Option<String> {
        let (world, note) = World::of_training(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(world, World::single());
        note
    }

    #[test]
    fn processes_that_train_by_themselves_are_noted() {
        for variables in [
            &[][..],
            &[("RANK", "0"), ("WORLD_SIZE", "1")],
            &[("RANK", "3")],
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_JOB_ID", "7")],
            &[("JOB_COMPLETION_INDEX", "4"), ("JOB_COMPLETIONS", "5")],
            &[("JOB_COMPLETION_INDEX", "4")],
            &[("PMI_RANK", "8"), ("PMI_SIZE", "8")],
        ] {
            assert_eq!(note(variables), None, "{variables:?}");
        }
        let several = note(&[("RANK", "3"), ("WORLD_SIZE", "8")]).unwrap();
        assert!(several.starts_with("torchrun started 8 processes, of which this is number 3"), "{several}");
    }

    #[test]
    fn a_single_process_keeps_its_sums() {
        let world = World::single();
        let tensor = Tensor::from_slice(&[1.5f32, -2.0, 7.0]);
        assert_eq!((world.rank(), world.size(), world.writes()), (0, 1, true));
        assert_eq!(world.sum(&tensor).unwrap(), tensor);
        assert_eq!(world.mean(&tensor).unwrap(), tensor);
        assert_eq!(world.sum_of(-7), Ok(-7));
        assert_eq!(world.sum_each([0.1, f64::MIN_POSITIVE, -3.0]), Ok([0.1, f64::MIN_POSITIVE, -3.0]));
        assert_eq!(world.gather(&tensor).unwrap(), tensor);
        assert_eq!([world.any(true), world.any(false)], [Ok(true), Ok(false)]);
    }

    #[test]
    fn places_of_all_processes_make_the_whole_batch() {
        let of = |rank| (0..4).map(move |own| World { rank, size: 3 }.place(own, 4));
        assert!((0..3).flat_map(of).eq(0..12));
        assert_eq!(World::single().place(5, 7), 5);
    }

    #[test]
    fn several_processes_exchange_nothing_in_silence() {
        let world = World { rank: 1, size: 3 };
        assert!(!world.writes());
        let refused = WorldError::NoExchange { size: 3 };
        assert_eq!(world.sum_of(-7), Err(refused.clone()));
        assert_eq!(world.any(false), Err(refused.clone()));
        assert_eq!(world.sum_each([1.0, 2.0]), Err(refused.clone()));
        assert_eq!(world.gather(&Tensor::from_slice(&[1f32])).unwrap_err(), refused);
        assert_eq!(world.sum(&Tensor::from(1f32)).unwrap_err(), refused);
        assert_eq!(world.mean(&Tensor::from(1f32)).unwrap_err(), refused);
        assert_eq!(world.mean_gradients([].iter()), Err(refused));
    }
}
