//! Encoder and decoder around a quantizer. Each kind of network has a folder. Adding one touches
//! that folder, the `mod` line here, and two places of `kind.rs`.
//!
//! Nothing outside asks which network it is: an encoder states the [`TokenShape`] of an image, a
//! network's [`Plan`] states what can be said before it is built.

pub mod cnn;
mod footprint;
mod grid;
mod kind;
mod layout;
pub mod magvit2;
pub mod one_d;
pub mod pair;
pub mod tail_drop;
#[cfg(test)]
pub(crate) mod testing;
mod tokenizer;
mod trained_sizes;
pub mod transformer;
pub mod vit;

use std::fmt::Debug;

use tch::{Device, Kind, Tensor};

pub use footprint::{Count, Footprint, Halves};
pub use grid::nearest_multiples;
pub use kind::{Config, written};
pub use pair::comparable;
pub use pixtok_images::data::ImageSize;
pub use pixtok_tokens::TokenShape;
pub use tokenizer::{Reconstruction, Tokenizer};
pub use trained_sizes::TrainedSizes;

use crate::layers::Extension;
use crate::quantizer::{Mode, QuantizerConfig, QuantizerError};
use crate::variables::{Component, Scope};
use pixtok_base::{Class, Classified};
use tail_drop::TailDrop;

/// The model's settings do not work together.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An error of the encoder's or the decoder's settings.
    #[error("{0}")]
    Network(String),
    /// An error of the quantizer's settings.
    #[error(transparent)]
    Quantizer(#[from] QuantizerError),
}

impl Classified for ModelError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

/// Images to latents.
///
/// A trace (`codec::trace`) keeps every number that is read from a tensor's size, so nothing on the
/// way from images to indices and back takes B, H, W or N from `size()`.
pub trait Encoder: Debug + Send {
    /// The shape of the tokens of an image of this size.
    ///
    /// # Errors
    /// When the encoder cannot take images of this size.
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError>;

    /// Height and width of the images must be multiples of this number of pixels.
    fn side_multiple(&self) -> i64;

    /// The only size of images that it takes; `None` if it takes all whose sides are multiples of
    /// [`Encoder::side_multiple`].
    fn only_size(&self) -> Option<ImageSize> {
        None
    }

    /// The device of its weights.
    fn device(&self) -> Device;

    /// z of images. `mode` may change only how it is computed, and every [`Mode::Eval`] computes it
    /// in the same way, so that an image always gets the same indices.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` in [−1, 1] -> `[B, N, D]`; the positions of a grid row by row.
    fn forward(&self, images: &Tensor, mode: Mode) -> Tensor;
}

/// Decodes latents to images.
pub trait Decoder: Debug + Send {
    /// The weight of the last layer, at which an adversary's gradients are measured.
    fn last_layer(&self) -> &Tensor;

    /// Decodes tokens of this shape to images of size `image`.
    ///
    /// # Shapes
    /// `z_q`: `[B, N, D]` -> `[B, 3, H, W]`, about [−1, 1].
    fn forward(&self, z_q: &Tensor, shape: TokenShape, image: ImageSize, how: &Decode) -> Tensor;
}

/// How a latent is decoded.
#[derive(Debug, Clone, Copy)]
pub struct Decode<'a> {
    /// As for [`Encoder::forward`].
    pub mode: Mode<'a>,
    /// Indices `[B, h, w]` of tokens in a grid. Where they are given, h and w are taken from this
    /// tensor rather than from numbers, which a trace would keep for images of any size.
    pub places: Option<&'a Tensor>,
}

/// The latents of a grid as a feature map, for decoders that work on one: h and w are those of
/// [`Decode::places`], where they are given.
///
/// # Shapes
/// `z_q`: `[B, N, D]` -> `[B, D, h, w]`, a view.
fn feature_map(z_q: &Tensor, shape: TokenShape, how: &Decode) -> Tensor {
    let in_rows = match how.places {
        Some(places) => z_q.view_as(&places.unsqueeze(3).expand([-1, -1, -1, z_q.size()[2]], false)),
        None => {
            let grid = shape.stored();
            z_q.unflatten(1, [i64::from(grid.h), i64::from(grid.w)])
        }
    };
    in_rows.permute([0, 3, 1, 2])
}

/// The first name of a key with dots between names: that of the table, for a key in one.
fn first_name(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

/// The settings of a network.
pub trait Settings {
    /// The settings with fixed defaults of absent keys written out, so that a saved config states
    /// everything that was used.
    fn resolved(&self) -> Config;

    /// The settings with all defaults of absent keys written out, so that absent and written-out
    /// settings can be compared.
    fn written_out(&self, quantizer: &QuantizerConfig) -> Config;

    /// The reason why these settings, as a run recorded them, meant a different network when they
    /// were written; `None` if they did not.
    fn had_another_meaning(&self) -> Option<String> {
        None
    }

    /// The components whose weights depend on the setting with this key. Dots separate the names
    /// of tables within the network's, so `pixel_decoder.codes` is a key like any other.
    fn components_of(&self, _key: &str) -> &'static [Component] {
        &[Component::Encoder, Component::Decoder]
    }

    /// What is done with positions at sizes beyond the trained one; `None` of a network without
    /// positions that extend.
    fn extension(&self) -> Option<Extension> {
        None
    }

    /// The same network with this extension; `None` if the network cannot have it.
    fn with_extension(&self, _extension: Extension) -> Option<Config> {
        None
    }

    /// In training, which images keep only their first tokens; `None` if all keep all.
    fn tail_drop(&self) -> Option<&TailDrop> {
        None
    }

    /// Whether training draws noise, so that its seeds matter.
    fn draws_noise(&self) -> bool {
        self.tail_drop().is_some()
    }

    /// The network that these settings make around a quantizer, when it is trained on these sizes.
    /// Builds nothing.
    ///
    /// # Errors
    /// When a setting is out of range or the settings do not fit each other; the message says which.
    fn plan(&self, quantizer: &QuantizerConfig, trained: TrainedSizes) -> Result<Box<dyn Plan>, ModelError>;
}

/// A network whose settings were checked: all that is known of it before it is built.
pub trait Plan: Debug {
    /// The tokens of an image of the planned size.
    fn shape(&self) -> TokenShape;

    /// As [`Encoder::side_multiple`].
    fn side_multiple(&self) -> i64;

    /// As [`Encoder::only_size`].
    fn only_size(&self) -> Option<ImageSize> {
        None
    }

    /// The fewest tokens of an image that the decoder can decode.
    fn fewest_tokens(&self) -> usize {
        1
    }

    /// C, numbers in a position's latent.
    fn latent_channels(&self) -> i64;

    /// Registers the encoder's variables in `scope`.
    fn encoder(&self, scope: &Scope) -> Box<dyn Encoder>;

    /// The same for the decoder.
    fn decoder(&self, scope: &Scope) -> Box<dyn Decoder>;

    /// What each half keeps in a training step on `device`.
    fn halves(&self, device: Device) -> Halves;

    /// What a training step keeps in memory on `device`.
    fn footprint(&self, device: Device) -> Footprint {
        self.halves(device).footprint()
    }

    /// The network with every number worked out, for readers that do not know our rules for absent
    /// settings.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn description(&self) -> Result<serde_json::Value, ModelError>;
}

fn as_json(description: &impl serde::Serialize) -> Result<serde_json::Value, ModelError> {
    serde_json::to_value(description).map_err(|error| ModelError::Network(error.to_string()))
}

/// Converts `[B, 3, H, W]` bytes to float32 in [−1, 1].
pub fn images_from_bytes(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

/// All keys of a network's settings as a comparison of two configs has them, with dots for those in
/// tables.
#[cfg(test)]
fn dotted_keys(settings: &impl serde::Serialize) -> Vec<String> {
    fn add(keys: &mut Vec<String>, above: &str, table: &toml::Table) {
        for (name, value) in table {
            match value {
                toml::Value::Table(inner) => add(keys, &format!("{above}{name}."), inner),
                _ => keys.push(format!("{above}{name}")),
            }
        }
    }
    let mut keys = vec![];
    add(&mut keys, "", &toml::Table::try_from(settings).unwrap_or_default());
    keys.sort_unstable();
    keys
}

/// The image size of `[B, 3, H, W]`.
#[must_use]
pub fn size_of(images: &Tensor) -> ImageSize {
    let size = images.size();
    ImageSize { height: size[2] as u32, width: size[3] as u32 }
}
