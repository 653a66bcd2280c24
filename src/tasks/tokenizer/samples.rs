//! Sample sheets: a few validation images above their reconstructions, made again as the training
//! goes on.

use std::sync::Arc;

use tch::{Device, Tensor};

use crate::batches::{picture_of, tensor_of};
use crate::codec::Codec;
use crate::evaluate::{self, EvaluateError, chosen};
use crate::metrics::mean_psnr;
use crate::model::size_of;
use crate::outputs::{caption, comparison};
use pixtok_images::data::{self, Dataset, Fit, Prepare};
use pixtok_images::picture::Picture;

/// The number of pictures on a sheet.
const PICTURES: usize = 8;

/// The images of the sample sheets.
#[derive(Debug, Default)]
pub struct Samples {
    names: Vec<String>,
    /// As the model sees them, each `[3, H, W]` uint8 on the CPU.
    images: Vec<Tensor>,
}

impl Samples {
    /// Reads the validation images that `eval.samples` names, or else some with much detail. Those
    /// that cannot be read are left out, since the evaluation reports them.
    ///
    /// # Errors
    /// When `eval.samples` names an image that is not evaluated.
    pub fn read(
        val_set: &Arc<Dataset>,
        data: &data::Config,
        eval: &evaluate::Config,
    ) -> Result<Self, EvaluateError> {
        let names = chosen(val_set, data, eval.bound(), &eval.samples, PICTURES)?;
        let (prepare, decode) = (Prepare::new(data, Fit::Centre), data.decode_options());
        let mut samples = Self::default();
        for image in val_set.evaluated(eval.bound()) {
            let name = val_set.name(image);
            if !names.iter().any(|chosen| *chosen == *name) {
                continue;
            }
            let picture = val_set.picture(image, &decode);
            let Ok(prepared) = picture.and_then(|picture| prepare.picture(&picture)) else { continue };
            samples.names.push(name.into_owned());
            samples.images.push(tensor_of(&prepared.to_picture())?);
        }
        Ok(samples)
    }

    /// Draws originals, reconstructions and errors; `None` if there are no images. `codec` gets at
    /// most `batch_size` images at a time.
    ///
    /// # Errors
    /// When the tokenizer fails, for instance because its output is not finite.
    pub(super) fn sheet(
        &self,
        codec: &dyn Codec,
        device: Device,
        batch_size: usize,
    ) -> Result<Option<Picture>, EvaluateError> {
        let (mut captions, mut originals, mut reconstructions) = (vec![], vec![], vec![]);
        let batches = self.images.chunks(batch_size).zip(self.names.chunks(batch_size));
        for (images, names) in batches {
            let images = Tensor::stack(images, 0).to_device(device);
            let recons = codec.decode(&codec.encode(&images)?, size_of(&images))?;
            for (i, name) in (0..).zip(names) {
                let (image, recon) = (images.narrow(0, i, 1), recons.narrow(0, i, 1));
                captions.push(caption(name, mean_psnr(&image, &recon)));
                originals.push(picture_of(&image.squeeze_dim(0))?);
                reconstructions.push(picture_of(&recon.squeeze_dim(0))?);
            }
        }
        Ok((!originals.is_empty()).then(|| comparison(captions, originals, reconstructions)))
    }
}
