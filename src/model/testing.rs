//! What the tests of the networks share.

use super::*;
use crate::variables::Variables;
use pixtok_base::seed::Seed;

pub fn fsq() -> QuantizerConfig {
    toml::from_str("kind = \"fsq\"\nlevels = [8, 5, 5, 5]").unwrap()
}

pub fn size((height, width): (u32, u32)) -> ImageSize {
    ImageSize { height, width }
}

/// The tokenizer that these settings make around [`fsq`], always with the same weights.
pub fn build(settings: &dyn Settings, image: (u32, u32)) -> Result<(Variables, Tokenizer), ModelError> {
    build_with(settings, &fsq(), size(image))
}

/// The same around any quantizer, for a training on these sizes.
pub fn build_with(
    settings: &dyn Settings,
    quantizer: &QuantizerConfig,
    trained: impl Into<TrainedSizes>,
) -> Result<(Variables, Tokenizer), ModelError> {
    let variables = Variables::new(Device::Cpu);
    pixtok_torch::reseed(Seed(1));
    let tokenizer = Tokenizer::new(&variables, settings, quantizer, trained)?;
    Ok((variables, tokenizer))
}

/// Two random images, `[2, 3, h, w]` in [−1, 1].
pub fn images(h: i64, w: i64) -> Tensor {
    Tensor::rand([2, 3, h, w], (Kind::Float, Device::Cpu)) * 2.0 - 1.0
}
