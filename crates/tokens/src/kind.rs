//! The formats by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// Which format token files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatKind {
    /// One array, for numpy.
    Npy,
    /// A bare stream of ids.
    Raw,
    /// A JSON object a line.
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
    /// LlamaGen's arrays, two an image.
    Llamagen,
}

impl FormatKind {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Npy,
        Self::Raw,
        Self::Jsonl,
        Self::Parquet,
        Self::Webdataset,
        Self::Megatron,
        Self::Mds,
        Self::Litdata,
        Self::Llamagen,
    ];

    /// Its name, as users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Raw => "raw",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Webdataset => "webdataset",
            Self::Megatron => "megatron",
            Self::Mds => "mds",
            Self::Litdata => "litdata",
            Self::Llamagen => "llamagen",
        }
    }

    /// Its writer and reader.
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

impl fmt::Display for FormatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FormatKind {
    type Err = TokensError;

    fn from_str(name: &str) -> Result<Self, TokensError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            TokensError::Unsuitable(format!("there is no token format {name:?}; there are {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_everywhere() {
        for kind in FormatKind::ALL {
            assert_eq!(kind.to_string().parse::<FormatKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            let _: &dyn Format = kind.format();
        }
        let error = "arrow".parse::<FormatKind>().unwrap_err().to_string();
        assert!(error.contains("\"arrow\"; there are npy, raw, jsonl"), "{error}");
    }
}
