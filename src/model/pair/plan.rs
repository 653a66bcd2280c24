//! The plan of a pair: those of both networks, checked against each other.

use serde_json::{Value, json};
use tch::Device;

use super::encoder::{Encoder, Taken};
use super::{Config, Half};
use crate::model::{self, Halves, ImageSize, ModelError, TokenShape, TrainedSizes};
use crate::quantizer::QuantizerConfig;
use crate::variables::{Component, Scope};

/// Two planned networks. One half of each is built.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it was made from.
    settings: Config,
    encoder: Box<dyn model::Plan>,
    decoder: Box<dyn model::Plan>,
}

impl Plan {
    /// The pair when it is trained on these sizes.
    pub fn new(
        config: &Config,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Self, ModelError> {
        if config.encoder.settings().tail_drop().is_some() {
            return Err(ModelError::Network(
                "model.encoder.tail_drop trains a decoder on prefixes, and the decoder is that of model.decoder; move \
                 it to model.decoder.tail_drop"
                    .into(),
            ));
        }
        let encoder = network(Component::Encoder, &config.encoder, quantizer, trained)?;
        let decoder = network(Component::Decoder, &config.decoder, quantizer, trained)?;
        let [made, taken] = [&encoder, &decoder].map(|plan| plan.shape());
        if made != taken {
            return Err(ModelError::Network(format!(
                "of an image of {}×{} pixels model.encoder makes {}, and model.decoder takes {}; choose settings \
                 of the two that agree in it",
                trained.image.height,
                trained.image.width,
                tokens(made),
                tokens(taken)
            )));
        }
        let [made, taken] = [&encoder, &decoder].map(|plan| plan.latent_channels());
        if made != taken {
            return Err(ModelError::Network(format!(
                "the latents of model.encoder have {made} numbers, and those that model.decoder takes have {taken}; \
                 give both the same latent_channels"
            )));
        }
        let extensions = [&config.encoder, &config.decoder].map(|half| half.settings().extension());
        if let [Some(one), Some(other)] = extensions
            && one != other
        {
            return Err(ModelError::Network(format!(
                "model.encoder.extension is {one}, and model.decoder.extension is {other}; give both the same"
            )));
        }
        Ok(Self { settings: config.clone(), encoder, decoder })
    }
}

/// Plans the network that gives this half. Its own messages call its settings those of `model`.
fn network(
    half: Component,
    settings: &Half,
    quantizer: &QuantizerConfig,
    trained: TrainedSizes,
) -> Result<Box<dyn model::Plan>, ModelError> {
    if matches!(settings.network(), model::Config::Pair(_)) {
        return Err(ModelError::Network(format!(
            "model.{half}.kind is pair; give the kind of a single network, whose {half} is used"
        )));
    }
    let plan = settings.settings().plan(quantizer, trained).map_err(|error| match error {
        ModelError::Network(words) => {
            ModelError::Network(format!("model.{half}, as a model of its own: {words}"))
        }
        other @ ModelError::Quantizer(_) => other,
    })?;
    match unused_key(half, settings.network(), quantizer, trained) {
        None => Ok(plan),
        Some(key) => Err(ModelError::Network(format!(
            "model.{half}.{key} is a setting of the other half of that network, and model.{half} is used for its \
             {half} alone; leave it out"
        ))),
    }
}

/// The first key of a network that shapes only the half that is not used. A value that the network
/// has without the key doesn't count, nor does one without which its settings don't fit each other.
fn unused_key(
    half: Component,
    network: &model::Config,
    quantizer: &QuantizerConfig,
    trained: TrainedSizes,
) -> Option<String> {
    let Value::Object(keys) = serde_json::to_value(network).ok()? else { return None };
    let resolved = network.settings().resolved();
    let of_other_half = |key: &str| {
        let parts = network.settings().components_of(key);
        !parts.is_empty() && !parts.contains(&half)
    };
    let matters = |key: &str| {
        let mut others = keys.clone();
        others.remove(key);
        let without: Option<model::Config> = serde_json::from_value(Value::Object(others)).ok();
        without.is_some_and(|without| {
            without.settings().resolved() != resolved && without.settings().plan(quantizer, trained).is_ok()
        })
    };
    keys.keys().find(|key| of_other_half(key) && matters(key)).cloned()
}

/// The tokens of an image, in words.
fn tokens(shape: TokenShape) -> String {
    match shape {
        TokenShape::Grid { h, w } => format!("a grid of {h}×{w} tokens"),
        TokenShape::Sequence { n } => format!("a sequence of {n} tokens"),
    }
}

/// The least common multiple of two numbers over 0.
fn common_multiple(a: i64, b: i64) -> i64 {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

impl model::Plan for Plan {
    fn shape(&self) -> TokenShape {
        self.encoder.shape()
    }

    fn side_multiple(&self) -> i64 {
        common_multiple(self.encoder.side_multiple(), self.decoder.side_multiple())
    }

    fn only_size(&self) -> Option<ImageSize> {
        self.encoder.only_size().or_else(|| self.decoder.only_size())
    }

    fn fewest_tokens(&self) -> usize {
        self.encoder.fewest_tokens().max(self.decoder.fewest_tokens())
    }

    fn latent_channels(&self) -> i64 {
        self.encoder.latent_channels()
    }

    fn encoder(&self, scope: &Scope) -> Box<dyn model::Encoder> {
        let taken = Taken {
            side_multiple: self.side_multiple(),
            only_size: self.only_size(),
            fewest_tokens: self.fewest_tokens(),
        };
        Box::new(Encoder::new(self.encoder.encoder(scope), taken))
    }

    fn decoder(&self, scope: &Scope) -> Box<dyn model::Decoder> {
        self.decoder.decoder(scope)
    }

    fn halves(&self, device: Device) -> Halves {
        let (encoder, decoder) = (self.encoder.halves(device).encoder, self.decoder.halves(device).decoder);
        Halves { encoder, decoder }
    }

    fn description(&self) -> Result<Value, ModelError> {
        let described = |half: &Half, plan: &dyn model::Plan| {
            let mut description = plan.description()?;
            if let Value::Object(keys) = &mut description {
                keys.entry("kind").or_insert_with(|| half.network().kind().into());
            }
            Ok::<Value, ModelError>(description)
        };
        Ok(json!({
            "kind": model::Config::Pair(self.settings.clone()).kind(),
            "encoder": described(&self.settings.encoder, &*self.encoder)?,
            "decoder": described(&self.settings.decoder, &*self.decoder)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_common_multiple() {
        for (a, b, expected) in [(4, 4, 4), (8, 12, 24), (1, 7, 7), (16, 8, 16), (5, 3, 15)] {
            assert_eq!((common_multiple(a, b), common_multiple(b, a)), (expected, expected));
        }
    }
}
