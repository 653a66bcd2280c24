//! The encoder of one network and the decoder of another, where their tokens and latents agree: a
//! convolutional encoder with a transformer's decoder, say.

mod encoder;
mod plan;

use serde::{Deserialize, Deserializer, Serialize};

use super::tail_drop::TailDrop;
use super::{ModelError, Settings, TrainedSizes};
use crate::layers::Extension;
use crate::model;
use crate::quantizer::QuantizerConfig;
use crate::variables::Component;
use plan::Plan;

/// Settings of encoder and decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network whose encoder is used.
    pub encoder: Half,
    /// The network whose decoder is used.
    pub decoder: Half,
}

/// The settings of a network. The pair uses one half of it. In a config it is a table like
/// `[model]`, which always names its kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Half(Box<model::Config>);

impl<'de> Deserialize<'de> for Half {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        model::written::deserialize(deserializer).map(Self::of)
    }
}

impl Half {
    /// A half of this network.
    #[must_use]
    pub fn of(network: model::Config) -> Self {
        Self(Box::new(network))
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &model::Config {
        &self.0
    }

    fn settings(&self) -> &dyn Settings {
        self.0.settings()
    }

    /// The network with this extension of its positions, if it has any that extend. `None` if it
    /// has no such extension.
    fn extended(&self, extension: Extension) -> Option<model::Config> {
        match self.settings().extension() {
            None => Some(self.network().clone()),
            Some(_) => self.settings().with_extension(extension),
        }
    }
}

impl Config {
    /// The pair of what `change` makes of both halves.
    fn changed(&self, change: impl Fn(&dyn Settings) -> model::Config) -> model::Config {
        let [encoder, decoder] = [&self.encoder, &self.decoder].map(|half| Half::of(change(half.settings())));
        model::Config::Pair(Self { encoder, decoder })
    }
}

/// Both as pairs if one of them is a pair, so that their settings have the same places: any network
/// is the pair of its own encoder and its own decoder.
#[must_use]
pub fn comparable(networks: [model::Config; 2]) -> [model::Config; 2] {
    if !networks.iter().any(|network| matches!(network, model::Config::Pair(_))) {
        return networks;
    }
    networks.map(|network| match network {
        model::Config::Pair(_) => network,
        single => {
            model::Config::Pair(Config { encoder: Half::of(single.clone()), decoder: Half::of(single) })
        }
    })
}

impl Settings for Config {
    fn resolved(&self) -> model::Config {
        self.changed(|half| half.resolved())
    }

    fn written_out(&self, quantizer: &QuantizerConfig) -> model::Config {
        self.changed(|half| half.written_out(quantizer))
    }

    fn had_another_meaning(&self) -> Option<String> {
        [&self.encoder, &self.decoder].into_iter().find_map(|half| half.settings().had_another_meaning())
    }

    /// Each half's own, of the keys that concern the half that is used.
    fn components_of(&self, key: &str) -> &'static [Component] {
        let (table, rest) = key.split_once('.').unwrap_or((key, ""));
        let concerns =
            |half: &Half, own| rest.is_empty() || half.settings().components_of(rest).contains(&own);
        match table {
            "encoder" if concerns(&self.encoder, Component::Encoder) => &[Component::Encoder],
            "decoder" if concerns(&self.decoder, Component::Decoder) => &[Component::Decoder],
            "encoder" | "decoder" => &[],
            _ => &[Component::Encoder, Component::Decoder],
        }
    }

    /// The encoder's, or else the decoder's.
    fn extension(&self) -> Option<Extension> {
        [&self.encoder, &self.decoder].into_iter().find_map(|half| half.settings().extension())
    }

    /// Sets this extension in each half that has one.
    fn with_extension(&self, extension: Extension) -> Option<model::Config> {
        self.extension()?;
        let [encoder, decoder] = [&self.encoder, &self.decoder].map(|half| half.extended(extension));
        Some(model::Config::Pair(Self { encoder: Half::of(encoder?), decoder: Half::of(decoder?) }))
    }

    /// The decoder's, which is trained on prefixes and has the vector of absent tokens.
    fn tail_drop(&self) -> Option<&TailDrop> {
        self.decoder.settings().tail_drop()
    }

    fn draws_noise(&self) -> bool {
        [&self.encoder, &self.decoder].into_iter().any(|half| half.settings().draws_noise())
    }

    fn plan(
        &self,
        quantizer: &QuantizerConfig,
        trained: TrainedSizes,
    ) -> Result<Box<dyn model::Plan>, ModelError> {
        Ok(Box::new(Plan::new(self, quantizer, trained)?))
    }
}

#[cfg(test)]
mod tests;
