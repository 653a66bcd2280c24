//! `config.json`: for readers that do not know pixtok's defaults.

use anyhow::Result;
use serde_json::{Value, json};

use crate::model::ImageSize;
use crate::run::Trained;

/// The content of the file.
pub(super) fn json(trained: &Trained) -> Result<Value> {
    let (config, shape) = (&trained.config, trained.tokenizer.codebook());
    let (height, width) = config.image_size();
    let data = &config.data;
    Ok(json!({
        "model_type": "pixtok",
        "pixtok_version": env!("CARGO_PKG_VERSION"),
        "image_size": [height, width],
        // Whether it takes images of other sizes too. The TorchScript modules of a sequence do not.
        "any_size": trained.tokenizer.only_size().is_none(),
        // What is done with positions beyond the trained size; null without positions that extend.
        "positions": trained.extension(),
        // One number, or height and width if they differ; null for a sequence.
        "downsample": trained.pixels_per_token()?.map(downsample),
        "codebooks": shape.codebooks,
        "codebook_size": shape.size,
        "codebook_dim": shape.dim,
        "bits_per_token": shape.bits_per_token(),
        "parameters": trained.parameters,
        "step": trained.step,
        "weights": trained.step.map(|_| trained.choice.weights.name()),
        // The figure and the images by which this checkpoint was chosen as the best of its run;
        // null if it was not chosen.
        "chosen_by": trained.chosen_by,
        "weights_blake3": trained.weights_blake3()?,
        "keeps_tokens_of": config.train.keeps_tokens_of,
        "model": config.plan()?.description()?,
        "quantizer": config.quantizer,
        "preprocessing": {
            // Absent: the smallest size that covers the crop.
            "resize": data.resize,
            "filter": data.filter,
            "crop": { "kind": "centre", "size": [height, width] },
            "background": data.background,
            "normalisation": "x / 127.5 - 1",
        },
    }))
}

fn downsample(ImageSize { height, width }: ImageSize) -> Value {
    if height == width { json!(height) } else { json!([height, width]) }
}
