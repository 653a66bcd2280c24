//! The formats by name.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray, VariantNames};

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
use pixtok_base::suggest::nearest;

/// The format of token files.
///
/// Lists of formats, in help, messages and tests, are made from [`FormatKind::ALL`] and the
/// properties of [`Format`].
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
    EnumMessage,
    EnumString,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
#[strum(parse_err_ty = TokensError, parse_err_fn = no_format)]
pub enum FormatKind {
    /// One array, for numpy.
    Npy,
    /// A bare stream of ids.
    #[strum(to_string = "raw", serialize = "nanogpt", serialize = "bin")]
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

    /// Other names that [`str::parse`] takes for the format.
    pub fn aliases(self) -> impl Iterator<Item = &'static str> {
        self.get_serializations().iter().copied().filter(move |&alias| alias != self.name())
    }

    /// What else people call the format: programs that read it, endings of its files. Such a name
    /// is refused, with the format that is meant.
    fn called(self) -> &'static [&'static str] {
        match self {
            Self::Npy => &["numpy"],
            Self::Raw => &["memmap", "binary", "olmo", "dolma"],
            Self::Jsonl => &["json", "ndjson"],
            Self::Parquet => &["arrow", "pyarrow", "datasets", "huggingface", "hf"],
            Self::Webdataset => &["wds", "tar", "tars"],
            Self::Megatron => &["megatron-lm", "nemo", "idx"],
            Self::Mds => &["mosaicml", "mosaic", "streaming"],
            Self::Litdata => &["lightning", "litgpt"],
            Self::Llamagen => &[],
        }
    }

    /// Every name of the format.
    fn words(self) -> impl Iterator<Item = &'static str> {
        self.get_serializations().iter().chain(self.called()).copied()
    }

    /// The formats with a property, as words: `npy, raw and megatron`, where `last` is `and`.
    #[must_use]
    pub fn list(property: impl Fn(&dyn Format) -> bool, last: &str) -> String {
        let having = Self::ALL.iter().filter(|kind| property(kind.format()));
        let names: Vec<&str> = having.map(|kind| kind.name()).collect();
        match names.split_last() {
            Some((name, others)) if !others.is_empty() => format!("{} {last} {name}", others.join(", ")),
            _ => names.concat(),
        }
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
    let near = nearest(name, FormatKind::ALL.iter().flat_map(|kind| kind.words()));
    let meant = FormatKind::ALL.iter().find(|kind| kind.words().any(|word| Some(word) == near));
    let hint = meant.map_or_else(String::new, |kind| format!("did you mean {kind}? "));
    let names = <FormatKind as VariantNames>::VARIANTS.join(", ");
    TokensError::Unsuitable(format!("there is no token format {name:?}; {hint}choose from {names}"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn names_are_one_everywhere() {
        for &kind in FormatKind::ALL {
            assert_eq!(kind.to_string().parse::<FormatKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert!(kind.aliases().all(|alias| alias.parse::<FormatKind>().unwrap() == kind));
            let _: &dyn Format = kind.format();
        }
        assert_eq!(FormatKind::Raw.aliases().collect::<Vec<_>>(), ["nanogpt", "bin"]);
        assert_eq!(FormatKind::Npy.aliases().count(), 0);
        for (name, kind) in [("nanoGPT", FormatKind::Raw), ("WebDataset", FormatKind::Webdataset)] {
            assert_eq!(name.parse::<FormatKind>().unwrap(), kind);
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_format_that_is_meant() {
        let mut words: Vec<&str> = FormatKind::ALL.iter().flat_map(|kind| kind.words()).collect();
        words.sort_unstable();
        assert!(words.is_sorted_by(|a, b| a < b), "a name means two formats: {words:?}");
        let refused = |name: &str| name.parse::<FormatKind>().unwrap_err().to_string();
        for (name, kind) in [("NumPy", "npy"), ("arrow", "parquet"), ("nanoGTP", "raw"), ("jsnol", "jsonl")] {
            let start =
                format!("there is no token format {name:?}; did you mean {kind}? choose from npy, raw, ");
            assert!(refused(name).starts_with(&start), "{}", refused(name));
        }
        let unlike = refused("tfrecord");
        assert!(unlike.contains("\"tfrecord\"; choose from npy, raw, "), "{unlike}");
    }

    #[test]
    fn lists_are_words() {
        assert_eq!(FormatKind::list(|format| format.takes_any_dtype(), "and"), "npy, raw and megatron");
        assert_eq!(FormatKind::list(|format| format.takes_names(), "or"), "jsonl");
        assert_eq!(FormatKind::list(|_| false, "or"), "");
    }

    #[test]
    fn a_format_takes_the_sizes_that_it_says() {
        let ragged = &fixture::ragged_layouts()[0];
        for kind in FormatKind::ALL {
            let format = kind.format();
            assert_eq!(format.check(ragged).is_ok(), format.takes_any_sizes(), "{kind}");
        }
        let refused = FormatKind::Npy.format().check(ragged).unwrap_err().to_string();
        let others = "or take raw, jsonl, parquet, webdataset, megatron or mds";
        assert!(refused.starts_with("npy needs as many tokens") && refused.ends_with(others), "{refused}");
    }

    /// The page and the reader in Python are written by hand.
    #[test]
    fn every_format_is_on_the_page_and_has_a_reader_in_python() {
        let page = include_str!("../../../docs/tokens.md");
        let readers = include_str!("../../../python/pixtok_reader/tokens.py");
        for kind in FormatKind::ALL {
            assert!(page.contains(&format!("\n| `{kind}` | ")), "docs/tokens.md does not have {kind}");
            assert!(readers.contains(&format!("\n    \"{kind}\": ")), "READERS does not have {kind}");
        }
    }
}
