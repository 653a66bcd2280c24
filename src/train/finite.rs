//! Checks that loss and gradients are finite. The check costs one host read a step; on CUDA it
//! happens after the step, not in the middle of it.

use tch::{Device, Kind, Tensor};

use super::TrainError;
use super::signals::elected;
use super::task::GroupId;

/// The loss and gradient norm of one group of parameters in a step: scalars on their device.
#[derive(Debug)]
pub(super) struct GroupTensors {
    pub id: GroupId,
    pub name: &'static str,
    pub loss: Tensor,
    pub grad_norm: Tensor,
}

/// A step whose numbers have not been read yet.
#[derive(Debug)]
struct Unread {
    step: u64,
    groups: Vec<(GroupId, &'static str)>,
    /// `[2·groups]`: loss and gradient norm of each; then the votes of several processes on the
    /// signals that came.
    numbers: Tensor,
    samples: &'static str,
    names: Vec<String>,
}

/// Loss and gradient norm of one step and group, on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupNumbers {
    pub id: GroupId,
    pub name: &'static str,
    pub loss: f64,
    pub grad_norm: f64,
}

/// The numbers of one step, on the host.
#[derive(Debug)]
pub(super) struct StepNumbers {
    pub groups: Vec<GroupNumbers>,
    /// The signal that several processes take.
    pub signal: Option<i32>,
}

/// Reads each step's numbers. On the CPU it reads them at once, which costs nothing. On CUDA it
/// reads them one step later; the optimizer has already skipped a bad step by itself.
#[derive(Debug)]
pub(super) struct FiniteCheck {
    late: bool,
    /// What a batch consists of, for messages.
    samples: &'static str,
    unread: Option<Unread>,
}

impl FiniteCheck {
    pub fn new(device: tch::Device, samples: &'static str) -> Self {
        Self { late: device.is_cuda(), samples, unread: None }
    }

    /// Takes the scalars of `step` (counted from 1), from at least one group, and among several
    /// processes their votes on signals. Returns a flag for the optimizers'
    /// `found_inf`: a float scalar that is 1 if the numbers are not finite.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`], for this step on the CPU, for the previous step on CUDA.
    pub fn take(
        &mut self,
        step: u64,
        groups: &[GroupTensors],
        votes: Option<&Tensor>,
        names: &[String],
    ) -> Result<(Tensor, Option<StepNumbers>), TrainError> {
        let scalars = groups.iter().flat_map(|group| [&group.loss, &group.grad_norm]);
        let scalars: Vec<Tensor> = scalars.map(|scalar| scalar.detach().to_kind(Kind::Float)).collect();
        let numbers = Tensor::stack(&scalars, 0);
        let numbers =
            votes.map_or_else(|| numbers.shallow_clone(), |votes| Tensor::cat(&[&numbers, votes], 0));
        let found_inf = numbers.isfinite().all().logical_not().to_kind(Kind::Float);
        let of_groups = groups.iter().map(|group| (group.id, group.name)).collect();
        let (samples, names) = (self.samples, names.to_vec());
        let unread = Unread { step, groups: of_groups, numbers, samples, names };
        let due = if self.late { self.unread.replace(unread) } else { Some(unread) };
        Ok((found_inf, due.map(Unread::read).transpose()?))
    }

    /// Reads what has not been read yet. To be called before anything is saved.
    ///
    /// # Errors
    /// The same as [`FiniteCheck::take`].
    pub fn finish(&mut self) -> Result<Option<StepNumbers>, TrainError> {
        self.unread.take().map(Unread::read).transpose()
    }
}

impl Unread {
    fn read(self) -> Result<StepNumbers, TrainError> {
        // A single copy to the host.
        let numbers = self.numbers.to_device(Device::Cpu);
        let number = |i: usize| numbers.double_value(&[i as i64]);
        let read = |(i, &(id, name)): (usize, &(GroupId, &'static str))| {
            let (loss, grad_norm) = (number(2 * i), number(2 * i + 1));
            GroupNumbers { id, name, loss, grad_norm }
        };
        let groups: Vec<GroupNumbers> = self.groups.iter().enumerate().map(read).collect();
        let signal = elected((2 * groups.len()..numbers.numel()).map(number));
        let bad = |group: &&GroupNumbers| !(group.loss.is_finite() && group.grad_norm.is_finite());
        let Some(group) = groups.iter().find(bad) else { return Ok(StepNumbers { groups, signal }) };
        let (what, value) =
            if group.loss.is_finite() { ("gradient norm", group.grad_norm) } else { ("loss", group.loss) };
        Err(TrainError::NotFinite {
            step: self.step,
            group: group.id,
            name: group.name,
            what: format!("{what} is {value}"),
            samples: self.samples,
            names: self.names,
        })
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGUSR1;

    use super::super::signals::vote;
    use super::*;

    fn names() -> Vec<String> {
        vec!["a.jpg".into()]
    }

    #[test]
    fn at_once_or_one_step_later() {
        let numbers_of = |loss: f32, grad_norm: f32| {
            let (fine, fine_norm) = (Tensor::from(1f32), Tensor::from(2f32));
            let (loss, grad_norm) = (Tensor::from(loss), Tensor::from(grad_norm));
            [
                GroupTensors { id: 0, name: "tokenizer", loss: fine, grad_norm: fine_norm },
                GroupTensors { id: 1, name: "discriminator", loss, grad_norm },
            ]
        };
        let mut check = FiniteCheck::new(Device::Cpu, "pictures");
        let (found_inf, numbers) = check.take(1, &numbers_of(0.5, 3.0), None, &names()).unwrap();
        assert_eq!(found_inf.double_value(&[]), 0.0);
        assert_eq!(
            numbers.unwrap().groups.iter().map(|group| group.grad_norm).collect::<Vec<_>>(),
            [2.0, 3.0]
        );
        let error = check.take(2, &numbers_of(0.5, f32::INFINITY), None, &names()).unwrap_err();
        assert!(matches!(error, TrainError::NotFinite { group: 1, .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("step 2")
                && error.contains("the discriminator's gradient norm is inf")
                && error.contains("pictures of the batch: a.jpg")
        );

        let votes = Tensor::from_slice(&vote(Some(SIGUSR1))).to_kind(Kind::Float);
        let (_, numbers) = check.take(3, &numbers_of(0.5, 3.0), Some(&votes), &names()).unwrap();
        assert_eq!(numbers.unwrap().signal, Some(SIGUSR1));

        let mut late = FiniteCheck { late: true, ..FiniteCheck::new(Device::Cpu, "pictures") };
        let (found_inf, numbers) = late.take(1, &numbers_of(f32::NAN, 1.0), None, &names()).unwrap();
        assert_eq!(found_inf.double_value(&[]), 1.0);
        assert!(numbers.is_none());
        let error = late.take(2, &numbers_of(0.5, 1.0), None, &names()).unwrap_err().to_string();
        assert!(error.contains("step 1") && error.contains("loss is NaN"));
        assert!(late.finish().unwrap().is_some(), "step 2 is still to be read");
    }
}
