//! Inception features of originals and reconstructions, for the Fréchet distance.

use tch::Tensor;

use super::Figures;
use crate::metrics::{FeatureStatistics, frechet_distance};
use crate::pretrained::Inception;
use crate::world::{World, WorldError};
use pixtok_torch::no_grad;

/// With fewer images, the covariance of 2048 features does not have full rank, and the distance is
/// biased upwards.
pub const ENOUGH_IMAGES: usize = 2048;
/// Images per pass of the network, which resizes each to 299×299.
const CHUNK: i64 = 16;

/// The statistics of the features of originals and reconstructions.
pub(super) struct Features<'a> {
    inception: &'a Inception,
    originals: FeatureStatistics,
    recons: FeatureStatistics,
}

impl<'a> Features<'a> {
    pub(super) fn new(inception: &'a Inception) -> Self {
        Self { inception, originals: FeatureStatistics::new(), recons: FeatureStatistics::new() }
    }

    /// Adds a batch of originals and reconstructions, each `[B, 3, H, W]` uint8.
    pub(super) fn add(&mut self, originals: &Tensor, recons: &Tensor) {
        no_grad(|| {
            for (images, statistics) in [(originals, &mut self.originals), (recons, &mut self.recons)] {
                let total = images.size()[0];
                for start in (0..total).step_by(CHUNK as usize) {
                    let part = images.narrow(0, start, CHUNK.min(total - start));
                    statistics.add(&self.inception.features(&part));
                }
            }
        });
    }

    /// Adds the distance over the images of all processes, which add up their statistics here.
    pub(super) fn finish(self, figures: &mut Figures, world: &World) -> Result<(), WorldError> {
        let (originals, recons) = (self.originals.of_all(world)?, self.recons.of_all(world)?);
        let images = originals.vectors() as usize;
        let few = || format!("of only {images} images; biased upwards under {ENOUGH_IMAGES}");
        match frechet_distance(&originals, &recons) {
            Ok(distance) => {
                figures.push_noted("rfid", distance, (images < ENOUGH_IMAGES).then(few));
            }
            // This failure must not discard the other figures, which may have taken hours.
            Err(error) => figures.push_absent("rfid", error.to_string()),
        }
        Ok(())
    }
}
