use tch::Tensor;

/// Gives `value` bit for bit in the forward pass, and the gradient of `carrier` in the backward
/// pass.
///
/// The usual `carrier + sg[value - carrier]` differs from `value` in a fifth of all elements. This
/// form adds an exact zero instead. The zero turns -0.0 into 0.0, so `value` must not contain -0.0.
///
/// # Shapes
/// Both have the same shape.
pub fn straight_through(value: &Tensor, carrier: &Tensor) -> Tensor {
    value.detach() + (carrier - carrier.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn value_is_exact_and_gradient_is_the_carriers() {
        let value = Tensor::randn([5, 7], (Kind::Float, Device::Cpu)) * 1e3;
        let z = Tensor::randn([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let out = straight_through(&value, &(&z * 3.0));
        assert_eq!(out, value);
        out.sum(Kind::Float).backward();
        assert_eq!(z.grad(), Tensor::full([5, 7], 3.0, (Kind::Float, Device::Cpu)));
    }
}
