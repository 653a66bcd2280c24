//! AdamW and gradient clipping with one call for all parameters.

use std::ffi::c_int;

use tch::Tensor;
use torch_sys::C_tensor;

use super::TorchError;
use super::shim::{check, px_clip_grad_norm, px_drop_grads, px_fused_adamw};

/// The tensors that [`fused_adamw`] updates, one entry per parameter, all on one device.
#[derive(Debug)]
pub struct AdamwTensors<'a> {
    /// The parameters, changed in place.
    pub params: &'a [Tensor],
    /// The gradients of the parameters.
    pub grads: &'a [Tensor],
    /// The first moments, changed in place.
    pub first: &'a [Tensor],
    /// The second moments, changed in place.
    pub second: &'a [Tensor],
    /// The numbers of steps taken, as float scalars, changed in place.
    pub steps: &'a [Tensor],
}

/// The hyperparameters of an AdamW step (Loshchilov & Hutter 2019, arXiv 1711.05101).
#[derive(Debug, Clone, Copy)]
pub struct AdamwStep {
    /// The learning rate.
    pub lr: f64,
    /// The decay rates of the two moments.
    pub betas: (f64, f64),
    /// The decoupled weight decay.
    pub weight_decay: f64,
    /// The number that is added to the root of the second moment.
    pub eps: f64,
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

/// One AdamW step over all parameters in one fused call. The device skips it if `found_inf` (a
/// float scalar) is not 0.
///
/// # Errors
/// If the lists differ in length, or libtorch fails (shapes, devices).
pub fn fused_adamw(
    tensors: &AdamwTensors<'_>,
    step: AdamwStep,
    found_inf: Option<&Tensor>,
) -> Result<(), TorchError> {
    let n = tensors.params.len();
    let lengths = [tensors.grads.len(), tensors.first.len(), tensors.second.len(), tensors.steps.len()];
    if lengths.iter().any(|&length| length != n) {
        return Err(TorchError::Other(format!("AdamW over {n} parameters got lists of {lengths:?} tensors")));
    }
    let (mut p, mut g) = (pointers(tensors.params), pointers(tensors.grads));
    let (mut m, mut v, mut s) = (pointers(tensors.first), pointers(tensors.second), pointers(tensors.steps));
    // SAFETY: each array holds n live tensors, which the borrows keep alive through the call.
    check(unsafe {
        px_fused_adamw(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            m.as_mut_ptr(),
            v.as_mut_ptr(),
            s.as_mut_ptr(),
            n as c_int,
            step.lr,
            step.betas.0,
            step.betas.1,
            step.weight_decay,
            step.eps,
            found_inf.map_or(std::ptr::null_mut(), |tensor| tensor.as_ptr().cast_mut()),
        )
    })
}

/// Removes the gradients of `params`.
///
/// # Errors
/// If libtorch fails.
pub fn drop_grads(params: &[Tensor]) -> Result<(), TorchError> {
    let mut pointers = pointers(params);
    // SAFETY: the array holds live tensors.
    check(unsafe { px_drop_grads(pointers.as_mut_ptr(), params.len() as c_int) })
}

/// The l2 norm over all gradients together (a float scalar, left on the device). If `max_norm` > 0,
/// the gradients are scaled in place by min(1, max_norm / (norm + 1e-6)), like in
/// `torch.nn.utils.clip_grad_norm_`.
///
/// # Errors
/// If libtorch fails.
pub fn clip_grad_norm(grads: &[Tensor], max_norm: f64) -> Result<Tensor, TorchError> {
    let mut pointers = pointers(grads);
    let mut total = std::ptr::null_mut();
    // SAFETY: the array holds live tensors; `total` receives a new tensor when the call succeeds.
    check(unsafe {
        px_clip_grad_norm(pointers.as_mut_ptr(), grads.len() as c_int, max_norm, &raw mut total)
    })?;
    // SAFETY: success means that `total` points to a tensor that we own.
    Ok(unsafe { Tensor::from_ptr(total) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn dropped_gradients_are_gone() {
        let param = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for _ in 0..2 {
            param.sum(Kind::Float).backward();
            assert_eq!(param.grad(), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
            drop_grads(&[param.shallow_clone()]).unwrap();
            assert!(!param.grad().defined());
        }
    }

    #[test]
    fn found_inf_skips_the_step() {
        let tensor = || [Tensor::ones([2, 3], (Kind::Float, Device::Cpu))];
        let (params, grads, first, second) = (tensor(), tensor(), tensor(), tensor());
        let steps = [Tensor::zeros([], (Kind::Float, Device::Cpu))];
        let tensors =
            AdamwTensors { params: &params, grads: &grads, first: &first, second: &second, steps: &steps };
        let step = AdamwStep { lr: 0.1, betas: (0.9, 0.95), weight_decay: 0.0, eps: 1e-8 };
        fused_adamw(&tensors, step, Some(&Tensor::from(1f32))).unwrap();
        assert_eq!(params[0], Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
        assert_eq!(f64::try_from(&steps[0]).unwrap(), 0.0);
        fused_adamw(&tensors, step, Some(&Tensor::from(0f32))).unwrap();
        assert_ne!(params[0], Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
        assert_eq!(f64::try_from(&steps[0]).unwrap(), 1.0);
    }
}
