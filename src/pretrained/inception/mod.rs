//! The Inception v3 network that Fréchet distances of images are measured with (Szegedy et al.
//! 2015, arXiv 1512.00567; Heusel et al. 2017, arXiv 1706.08500): TensorFlow's of 2015-12-05, as
//! ported by pytorch-fid and with its names.
//!
//! It differs from torchvision's: average poolings exclude the padding from their means, and the
//! last block has a max pooling in place of an average pooling.

mod blocks;
mod layers;

use std::path::Path;

use tch::{Device, Kind, Tensor, nn};

use self::blocks::{block_a, block_b, block_c, block_d, block_e};
use self::layers::{Block, ConvNorm, Pool, chain, halve, layer, run};
use super::NetError;
use super::weights::{Network, Weights};
use pixtok_torch::{in_full_precision, no_grad};

const WANTED: &str = "weights of Inception";

/// The height and width that images are resized to, in pixels.
const SIDE: i64 = 299;

/// The network up to its last pooling.
#[derive(Debug)]
pub struct Inception {
    /// The layers up to the first pooling, and from there up to the second.
    stem: [Vec<ConvNorm>; 2],
    blocks: Vec<Block>,
}

impl Inception {
    /// Length of a feature vector.
    pub const FEATURES: i64 = 2048;

    /// Loads weights to `device`.
    ///
    /// # Errors
    /// [`NetError`], if the file does not exist, is for another network, or lacks some of its
    /// tensors as float32.
    pub fn load(path: &Path, device: Device) -> Result<Self, NetError> {
        let weights = Weights::read(path, WANTED)?;
        match weights.network() {
            Network::Inception => weights.fill(device, Self::new),
            Network::LpipsAlex | Network::LpipsVgg => Err(weights.of_another()),
        }
    }

    fn new(path: &nn::Path) -> Self {
        let stem = [
            chain(
                path,
                3,
                &[
                    layer("Conv2d_1a_3x3", 32, [3, 3]).halving(),
                    layer("Conv2d_2a_3x3", 32, [3, 3]).cropping(),
                    layer("Conv2d_2b_3x3", 64, [3, 3]),
                ],
            ),
            chain(
                path,
                64,
                &[layer("Conv2d_3b_1x1", 80, [1, 1]), layer("Conv2d_4a_3x3", 192, [3, 3]).cropping()],
            ),
        ];
        let blocks = vec![
            block_a(&(path / "Mixed_5b"), 192, 32),
            block_a(&(path / "Mixed_5c"), 256, 64),
            block_a(&(path / "Mixed_5d"), 288, 64),
            block_b(&(path / "Mixed_6a"), 288),
            block_c(&(path / "Mixed_6b"), 768, 128),
            block_c(&(path / "Mixed_6c"), 768, 160),
            block_c(&(path / "Mixed_6d"), 768, 160),
            block_c(&(path / "Mixed_6e"), 768, 192),
            block_d(&(path / "Mixed_7a"), 768),
            block_e(&(path / "Mixed_7b"), 1280, Pool::Mean),
            block_e(&(path / "Mixed_7c"), 2048, Pool::Max),
        ];
        Self { stem, blocks }
    }

    /// The feature vectors of images of any size, which are resized to 299×299 first. Without
    /// gradient.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` uint8 -> `[B, 2048]` float32.
    ///
    /// # Panics
    /// If the images are not uint8.
    pub fn features(&self, images: &Tensor) -> Tensor {
        assert_eq!(images.kind(), Kind::Uint8, "Inception takes 8-bit images");
        no_grad(|| {
            in_full_precision(|| {
                let unit = images.to_kind(Kind::Float) / 255.0;
                // Plain bilinear without antialiasing, as in published figures.
                let mut x = unit.upsample_bilinear2d([SIDE, SIDE], false, None, None) * 2.0 - 1.0;
                for layers in &self.stem {
                    x = halve(&run(layers, &x));
                }
                for block in &self.blocks {
                    x = block.forward(&x);
                }
                x.mean_dim([2, 3].as_slice(), false, Kind::Float)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::weights::write_file;
    use super::*;

    #[test]
    fn features_are_those_of_the_8bit_image_alone() {
        tch::manual_seed(4);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inception.safetensors");
        write_file(&path, Inception::new, |tensor| {
            // Weights that neither grow nor shrink the activations over the layers, and
            // normalisations of ones.
            let bound = (6.0 * tensor.size()[0] as f64 / tensor.numel() as f64).sqrt();
            drop(if tensor.dim() == 4 { tensor.uniform_(-bound, bound) } else { tensor.fill_(1.0) });
        });
        let inception = Inception::load(&path, Device::Cpu).unwrap();
        let images = Tensor::randint(256, [2, 3, 13, 9], (Kind::Uint8, Device::Cpu));
        let features = inception.features(&images);
        assert_eq!((features.size(), features.kind()), (vec![2, Inception::FEATURES], Kind::Float));
        assert!(!features.requires_grad());
        let second = inception.features(&images.narrow(0, 1, 1));
        let apart = (second - features.narrow(0, 1, 1)).abs().max().double_value(&[]);
        assert!(apart <= 1e-4 * features.abs().max().double_value(&[]), "{apart}");
        assert!(pixtok_base::panics::catch(|| inception.features(&images.to_kind(Kind::Float))).is_err());
    }
}
