//! The check that loss and gradients are numbers, which costs one host read a step, and none in mid-step on CUDA.

use tch::{Device, Kind, Tensor};

use super::TrainError;

/// A step whose numbers have not been read yet.
#[derive(Debug)]
struct Unread {
    step: u64,
    /// `[2]`: loss and gradient norm.
    numbers: Tensor,
    names: Vec<String>,
}

/// Loss and gradient norm of one step, on the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepNumbers {
    pub loss: f64,
    pub grad_norm: f64,
}

/// Reads each step's numbers: at once on the CPU, where that costs nothing; one step later on CUDA, where the
/// optimizer has meanwhile skipped a bad step by itself.
#[derive(Debug)]
pub(super) struct FiniteCheck {
    late: bool,
    unread: Option<Unread>,
}

impl FiniteCheck {
    pub fn new(device: tch::Device) -> Self {
        Self { late: device.is_cuda(), unread: None }
    }

    /// Takes the scalars of `step` (counted from 1). The returned flag, a float scalar, is 1 when they are not
    /// finite: the optimizer's `found_inf`.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for this step on the CPU, for the one before on CUDA.
    pub fn take(
        &mut self,
        step: u64,
        loss: &Tensor,
        grad_norm: &Tensor,
        names: &[String],
    ) -> Result<(Tensor, Option<StepNumbers>), TrainError> {
        let numbers = Tensor::stack(&[loss.detach().to_kind(Kind::Float), grad_norm.detach()], 0);
        let found_inf = numbers.isfinite().all().logical_not().to_kind(Kind::Float);
        let unread = Unread { step, numbers, names: names.to_vec() };
        let due = if self.late { self.unread.replace(unread) } else { Some(unread) };
        Ok((found_inf, due.map(Unread::read).transpose()?))
    }

    /// Reads what is left: before anything is saved.
    ///
    /// # Errors
    /// As [`FiniteCheck::take`].
    pub fn finish(&mut self) -> Result<Option<StepNumbers>, TrainError> {
        self.unread.take().map(Unread::read).transpose()
    }
}

impl Unread {
    fn read(self) -> Result<StepNumbers, TrainError> {
        // One copy to the host for both.
        let numbers = self.numbers.to_device(Device::Cpu);
        let [loss, grad_norm] = [0, 1].map(|i| numbers.double_value(&[i]));
        if loss.is_finite() && grad_norm.is_finite() {
            return Ok(StepNumbers { loss, grad_norm });
        }
        let (name, value) = if loss.is_finite() { ("gradient norm", grad_norm) } else { ("loss", loss) };
        Err(TrainError::NotFinite {
            step: self.step,
            what: format!("the {name} is {value}"),
            names: self.names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["a.jpg".into()]
    }

    #[test]
    fn at_once_or_one_step_later() {
        let number = |value: f32| Tensor::from(value);
        let mut check = FiniteCheck::new(Device::Cpu);
        let (found_inf, numbers) = check.take(1, &number(0.5), &number(2.0), &names()).unwrap();
        assert_eq!(found_inf.double_value(&[]), 0.0);
        assert_eq!(numbers.unwrap().grad_norm, 2.0);
        let error = check.take(2, &number(0.5), &number(f32::INFINITY), &names()).unwrap_err().to_string();
        assert!(
            error.contains("step 2") && error.contains("gradient norm is inf") && error.contains("a.jpg")
        );

        let mut late = FiniteCheck { late: true, unread: None };
        let (found_inf, numbers) = late.take(1, &number(f32::NAN), &number(1.0), &names()).unwrap();
        assert_eq!(found_inf.double_value(&[]), 1.0);
        assert!(numbers.is_none());
        let error = late.take(2, &number(0.5), &number(1.0), &names()).unwrap_err().to_string();
        assert!(error.contains("step 1") && error.contains("loss is NaN"));
        assert!(late.finish().unwrap().is_some(), "step 2 is still to be read");
    }
}
