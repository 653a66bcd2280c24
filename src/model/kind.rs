//! The kinds of networks and their settings. A kind is a folder beside this file. Adding one
//! touches the `mod` line of `mod.rs`, and here the variant of [`Config`] and the match arm of its
//! `settings`.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use toml::Value;

use super::{Settings, cnn, magvit2, one_d, pair, vit};
use crate::toml_value::Node;

/// The settings of encoder and decoder. In the config, `kind` names the network; absent: `cnn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Config {
    /// The convolutional autoencoder, including the variant of taming-transformers (`kind =
    /// "vqgan"`).
    Cnn(cnn::Config),
    /// The convolutional autoencoder of Open-MAGVIT2.
    Magvit2(magvit2::Config),
    /// A transformer over patches.
    Vit(vit::Config),
    /// A transformer to a sequence of tokens and back (TiTok).
    OneD(one_d::Config),
    /// The encoder of one network and the decoder of another.
    Pair(pair::Config),
}

impl Config {
    /// The settings of the network, whatever its kind.
    #[must_use]
    pub fn settings(&self) -> &dyn Settings {
        match self {
            Self::Cnn(config) => config,
            Self::Magvit2(config) => config,
            Self::Vit(config) => config,
            Self::OneD(config) => config,
            Self::Pair(config) => config,
        }
    }

    /// The name in configs.
    #[must_use]
    pub fn kind(&self) -> String {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        tagged[KIND].as_str().unwrap_or_default().to_owned()
    }

    /// The settings with fixed defaults of absent keys written out.
    #[must_use]
    pub fn resolved(self) -> Self {
        self.settings().resolved()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::Cnn(cnn::Config::default())
    }
}

/// As a config file has it: without a kind where it is `cnn`, as before there were others.
pub mod written {
    use super::cnn;
    use super::{Config, Deserialize, Deserializer, Error, KIND, Node, Serialize, Serializer, Value};

    /// Serializes the form of a config file.
    ///
    /// # Errors
    /// The serializer's errors.
    pub fn serialize<S: Serializer>(config: &Config, serializer: S) -> Result<S::Ok, S::Error> {
        if let Config::Cnn(config) = config {
            return config.serialize(serializer);
        }
        config.serialize(serializer)
    }

    /// Deserializes the form of a config file. `kind = "vqgan"` means `variant = "vqgan"` of a cnn.
    ///
    /// # Errors
    /// When the kind does not have a key or a value.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        let mut table = match Value::deserialize(deserializer)? {
            Value::Table(table) => table,
            other => return cnn::Config::deserialize(Node::new(other)).map(Config::Cnn),
        };
        if table.get(KIND).and_then(Value::as_str) == Some(cnn::VQGAN) {
            cnn::vqgan_as_variant(&mut table).map_err(D::Error::custom)?;
            table.remove(KIND);
        }
        table.entry(KIND).or_insert_with(|| "cnn".into());
        Config::deserialize(Node::new(Value::Table(table)))
    }
}

/// The key that names the kind.
const KIND: &str = "kind";

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use super::*;
    use crate::model::cnn::Variant;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Root {
        #[serde(default, with = "written")]
        model: Config,
    }

    fn read(text: &str) -> Result<Config, impl Display> {
        toml::from_str::<Root>(text).map(|root| root.model)
    }

    #[test]
    fn a_kind_may_be_absent_and_is_not_written_for_a_cnn() {
        let plain = cnn::Config { channels: 32, ..cnn::Config::default() };
        for text in ["[model]\nchannels = 32\n", "[model]\nkind = \"cnn\"\nchannels = 32\n"] {
            let config = read(text).map_err(|error| error.to_string()).unwrap();
            assert_eq!(config, Config::Cnn(plain.clone()));
            let written = toml::to_string(&Root { model: config }).unwrap();
            assert_eq!(written, format!("[model]\n{}", toml::to_string(&plain).unwrap()));
        }
        assert_eq!(read("").map_err(|error| error.to_string()), Ok(Config::default()));
    }

    #[test]
    fn the_kind_vqgan_is_the_variant() {
        let expected = Config::Cnn(cnn::Config { variant: Variant::Vqgan, ..cnn::Config::default() });
        for keys in ["kind = \"vqgan\"", "variant = \"vqgan\"", "kind = \"vqgan\"\nvariant = \"vqgan\""] {
            assert_eq!(read(&format!("[model]\n{keys}\n")).map_err(|e| e.to_string()), Ok(expected.clone()));
        }
        let words = |keys: &str| read(&format!("[model]\n{keys}\n")).unwrap_err().to_string();
        assert!(words("kind = \"vqgan\"\nvariant = \"plain\"").contains("leave one of them out"));
        assert!(words("kind = \"resnet\"").contains("unknown variant `resnet`"));
        assert!(words("chanels = 3").contains("unknown field `chanels`"));
        assert!(
            read("model = 5").unwrap_err().to_string().contains("invalid type: integer, expected a table")
        );
        assert!(
            read("model = [16]").unwrap_err().to_string().contains("invalid type: array, expected a table")
        );
    }
}
