//! LPIPS as an image metric.

use tch::{Kind, Tensor};

use super::{Absent, ImageMetric};
use crate::pretrained::{Backbone, Lpips};
use pixtok_torch::no_grad;

/// Images per pass of the network: the first layers of VGG16 produce 64 numbers per pixel.
const CHUNK: i64 = 4;

/// Learned perceptual distance (Zhang et al. 2018, arXiv 1801.03924), version 0.1. 0 for equal
/// images; lower is better.
#[derive(Debug)]
pub struct PerceptualDistance(pub Lpips);

impl ImageMetric for PerceptualDistance {
    fn name(&self) -> &'static str {
        match self.0.backbone() {
            Backbone::Alex => "lpips_alex",
            Backbone::Vgg => "lpips_vgg",
        }
    }

    fn measure(&self, originals: &Tensor, recons: &Tensor) -> Result<Tensor, Absent> {
        assert_eq!(originals.size(), recons.size(), "images and reconstructions differ in shape");
        Absent::under(self.0.backbone().min_side(), originals)?;
        let scaled = |bytes: &Tensor| bytes.to_kind(Kind::Float) / 127.5 - 1.0;
        let images = originals.size()[0];
        let distances: Vec<Tensor> = (0..images)
            .step_by(CHUNK as usize)
            .map(|start| {
                let part = |all: &Tensor| scaled(&all.narrow(0, start, CHUNK.min(images - start)));
                no_grad(|| self.0.distance(&part(originals), &part(recons)))
            })
            .collect();
        Ok(Tensor::cat(&distances, 0).to_kind(Kind::Double))
    }
}
