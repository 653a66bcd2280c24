use tch::{Tensor, nn::Module};

use crate::layers::{Conv2d, conv, plain_layout};
use crate::variables::Scope;

/// A learned 1×1 convolution into the quantizer's own width, and one out of it; nothing if the
/// widths are equal.
#[derive(Debug)]
pub struct Projection {
    layers: Option<(Conv2d, Conv2d)>,
}

impl Projection {
    /// A projection between latents of `channels` and codes of `dim`.
    #[must_use]
    pub fn new(path: &Scope, channels: i64, dim: i64) -> Self {
        let layers = (channels != dim).then(|| {
            (
                conv(&(path / "project_in"), channels, dim, 1, 1),
                conv(&(path / "project_out"), dim, channels, 1, 1),
            )
        });
        Self { layers }
    }

    /// `[B, N, C]` -> `[B, N, D]`.
    pub fn project_in(&self, latent: &Tensor) -> Tensor {
        self.layers.as_ref().map_or_else(
            || latent.shallow_clone(),
            |(into, _)| from_picture(&into.forward(&as_picture(latent))),
        )
    }

    /// `[B, N, D]` -> `[B, N, C]`.
    pub fn project_out(&self, codes: &Tensor) -> Tensor {
        self.layers.as_ref().map_or_else(
            || codes.shallow_clone(),
            |(_, out)| from_picture(&out.forward(&plain_layout(&as_picture(codes)))),
        )
    }
}

/// `[B, N, D]` -> `[B, D, 1, N]` of the same memory: a 1×1 convolution takes positions in any
/// shape.
fn as_picture(z: &Tensor) -> Tensor {
    // The new axis is the third, so that memory of [B, N, D] is channels_last.
    z.transpose(1, 2).unsqueeze(2)
}

/// The inverse of [`as_picture`].
fn from_picture(picture: &Tensor) -> Tensor {
    picture.squeeze_dim(2).transpose(1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::{Component, Variables};
    use pixtok_base::seed::Seed;
    use tch::{Device, Kind};

    /// The projection of a list of positions equals the projection of their grid, bit for bit and
    /// with every gradient, in both layouts.
    #[test]
    fn a_projection_knows_nothing_of_the_grid() {
        for (batch, channels, dim, h, w) in [(2, 16, 4, 5, 7), (3, 9, 6, 4, 1), (8, 64, 8, 12, 10)] {
            pixtok_torch::reseed(Seed(3));
            let store = Variables::new(Device::Cpu);
            let projection = Projection::new(&store.root(Component::Quantizer), channels, dim);
            let (into, out) = projection.layers.as_ref().unwrap();
            let draw = |channels| Tensor::randn([batch, channels, h, w], (Kind::Float, Device::Cpu));
            let (plain, g) = (draw(channels), draw(channels));
            for last in [false, true] {
                let turned = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
                let z = if last { turned(&plain) } else { plain.shallow_clone() };
                let gradients = |made: &Tensor, z: &Tensor| {
                    let inputs = [z, &into.weight, &out.weight];
                    Tensor::run_backward(&[(made * &g).sum(Kind::Float)], &inputs, false, false)
                };
                let z = z.set_requires_grad(true);
                let whole = out.forward(&plain_layout(&into.forward(&z)));
                let list = z.permute([0, 2, 3, 1]).flatten(1, 2);
                let of_list = projection.project_out(&projection.project_in(&list));
                let again = of_list.unflatten(1, [h, w]).permute([0, 3, 1, 2]);
                assert_eq!(again, whole, "{channels} to {dim}, channels last: {last}");
                for (ours, theirs) in gradients(&again, &z).iter().zip(gradients(&whole, &z)) {
                    assert_eq!(*ours, theirs, "{channels} to {dim}, channels last: {last}");
                }
            }
        }
    }
}
