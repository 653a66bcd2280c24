//! Before step 0: the quantizer looks at the first latents.

use std::sync::Arc;

use tch::{Device, Tensor};

use super::{Objective, TrainError};
use crate::data::{Cursor, Dataset, Loader};
use crate::model::images_from_bytes;
use crate::seed::Seed;
use crate::torch::{Precision, catching, no_grad, to_device_async, with_precision};

/// Where the latents come from.
pub(super) struct Source<'a> {
    pub dataset: &'a Arc<Dataset>,
    pub data: &'a crate::data::Config,
    pub train: &'a super::Config,
    pub seed: Seed,
    pub device: Device,
    pub precision: Precision,
}

/// Gives the quantizer the latents of as many first training batches as it wants, from a pass without gradient; says
/// of how many vectors. The training then begins with the same batches.
pub(super) fn start_quantizer(
    objective: &mut dyn Objective,
    source: &Source,
) -> Result<Option<i64>, TrainError> {
    let wanted = objective.tokenizer().quantizer.start_vectors();
    let Some(wanted) = wanted.filter(|_| objective.starts_quantizer()) else { return Ok(None) };
    let loader = Loader::train(
        Arc::clone(source.dataset),
        source.data,
        source.train.batch_size,
        source.seed,
        Cursor::default(),
        source.device,
    )?;
    let mut latents: Vec<Tensor> = vec![];
    let mut vectors = 0;
    for batch in loader {
        let images = batch?.images;
        for part in &images.chunk(source.train.micro_batches as i64, 0) {
            let z = catching(|| {
                no_grad(|| {
                    with_precision(source.precision, || {
                        objective
                            .tokenizer()
                            .latents(&images_from_bytes(&to_device_async(part, source.device)))
                    })
                })
            })?;
            vectors += z.size()[0] * z.size()[2] * z.size()[3];
            latents.push(z);
        }
        if vectors >= wanted {
            break;
        }
    }
    let seed = source.seed.derive("quantizer start", &[]);
    objective.tokenizer_mut().quantizer.start(&Tensor::cat(&latents, 0), seed)?;
    Ok(Some(vectors))
}
