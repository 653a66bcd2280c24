//! The formats by name.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use super::jsonl::Jsonl;
use super::litdata::Litdata;
use super::llamagen::Llamagen;
use super::mds::Mds;
use super::megatron::Megatron;
use super::npy::Npy;
use super::parquet::Parquet;
use super::raw::Raw;
use super::webdataset::Webdataset;
use super::{Format, TokensError};

/// The format of token files.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = TokensError, parse_err_fn = no_format)]
pub enum FormatKind {
    /// One array, for numpy.
    Npy,
    /// A bare stream of ids.
    Raw,
    /// One JSON object per line.
    Jsonl,
    /// A table, for `datasets`.
    Parquet,
    /// Tar archives.
    Webdataset,
    /// Megatron-LM's indexed data set.
    Megatron,
    /// MosaicML's streaming shards.
    Mds,
    /// litdata's chunks of tokens.
    Litdata,
    /// LlamaGen's arrays, two per image.
    Llamagen,
}

impl FormatKind {
    /// All formats.
    pub const ALL: &'static [Self] = <Self as VariantArray>::VARIANTS;

    /// The name as users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The writer and reader of the format.
    #[must_use]
    pub fn format(self) -> &'static dyn Format {
        match self {
            Self::Npy => &Npy,
            Self::Raw => &Raw,
            Self::Jsonl => &Jsonl,
            Self::Parquet => &Parquet,
            Self::Webdataset => &Webdataset,
            Self::Megatron => &Megatron,
            Self::Mds => &Mds,
            Self::Litdata => &Litdata,
            Self::Llamagen => &Llamagen,
        }
    }
}

fn no_format(name: &str) -> TokensError {
    let names = <FormatKind as VariantNames>::VARIANTS.join(", ");
    TokensError::Unsuitable(format!("there is no token format {name:?}; choose from {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_everywhere() {
        for &kind in FormatKind::ALL {
            assert_eq!(kind.to_string().parse::<FormatKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            let _: &dyn Format = kind.format();
        }
        let error = "arrow".parse::<FormatKind>().unwrap_err().to_string();
        assert!(error.contains("\"arrow\"; choose from npy, raw, jsonl"), "{error}");
    }
}
