//! Computing without gradients.

/// Runs `body` without recording operations for gradients. Unlike with `tch::no_grad`, recording is
/// on again afterwards even if `body` panics.
pub fn no_grad<T>(body: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    body()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::catching;

    #[test]
    fn gradients_come_back_after_a_panic() {
        let x = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!(!no_grad(|| &x * 2.0).requires_grad());
        assert!(catching(|| no_grad(|| x.view([3]))).is_err());
        assert!((&x * 2.0).requires_grad());
    }
}
