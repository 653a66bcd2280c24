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
    /// Of the usual reconstructions, and of those from each prefix of the tokens.
    recons: Vec<FeatureStatistics>,
}

impl<'a> Features<'a> {
    /// For the usual reconstructions and those from `prefixes` prefixes.
    pub(super) fn new(inception: &'a Inception, prefixes: usize) -> Self {
        let recons = (0..=prefixes).map(|_| FeatureStatistics::new()).collect();
        Self { inception, originals: FeatureStatistics::new(), recons }
    }

    /// Adds a batch of originals and of their reconstructions, each `[B, 3, H, W]` uint8.
    pub(super) fn add<'t>(&mut self, originals: &'t Tensor, recons: impl Iterator<Item = &'t Tensor>) {
        no_grad(|| {
            let recons = recons.zip(&mut self.recons);
            for (images, statistics) in std::iter::once((originals, &mut self.originals)).chain(recons) {
                let total = images.size()[0];
                for start in (0..total).step_by(CHUNK as usize) {
                    let part = images.narrow(0, start, CHUNK.min(total - start));
                    statistics.add(&self.inception.features(&part));
                }
            }
        });
    }

    /// Adds the distances over the images of all processes, which add up their statistics here.
    pub(super) fn finish(
        self,
        figures: &mut Figures,
        of_prefixes: &mut [Figures],
        world: &World,
    ) -> Result<(), WorldError> {
        let originals = self.originals.of_all(world)?;
        let images = originals.vectors() as usize;
        let few = || format!("of only {images} images; biased upwards under {ENOUGH_IMAGES}");
        for (recons, figures) in self.recons.into_iter().zip(std::iter::once(figures).chain(of_prefixes)) {
            match frechet_distance(&originals, &recons.of_all(world)?) {
                Ok(distance) => {
                    figures.push_noted("rfid", distance, (images < ENOUGH_IMAGES).then(few));
                }
                // This failure must not discard the other figures, which may have taken hours.
                Err(error) => figures.push_absent("rfid", error.to_string()),
            }
        }
        Ok(())
    }
}
