//! Makes vocabulary and framing from the options.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use pixtok_base::Misuse;
use pixtok_tokens::{
    Arrangement, Dtype, FormatKind, Framing, Preset, PresetIds, SizeTokens, TokenNames, Vocabulary,
};

/// How codes are converted to stored ids. Single ids override those of the preset.
#[derive(Debug, Clone, Default)]
pub struct IdOptions {
    /// The vocabulary and framing of a published model.
    pub preset: Option<Preset>,
    /// The id of code 0.
    pub vocab_offset: Option<u32>,
    /// A JSON array with the id of each code.
    pub vocab_map: Option<PathBuf>,
    /// A limit that all ids must be below.
    pub vocab_size: Option<u64>,
    /// The number type of the ids.
    pub dtype: Option<Dtype>,
    /// The id before everything else.
    pub bos: Option<u32>,
    /// The id that starts the image.
    pub boi: Option<u32>,
    /// The id before the first code, after the size.
    pub img: Option<u32>,
    /// The id after every row of the grid.
    pub eol: Option<u32>,
    /// The id after the last row.
    pub eof: Option<u32>,
    /// The id that ends the image.
    pub eoi: Option<u32>,
    /// The id after everything else.
    pub eos: Option<u32>,
    /// The id that ends the document.
    pub append_eod: Option<u32>,
    /// How ids state the size of the grid.
    pub size_tokens: Option<SizeTokens>,
    /// Whether to store digits instead of indices.
    pub digits: bool,
    /// The order of several codebooks or digits.
    pub arrange: Option<Arrangement>,
    /// A pattern of names to write instead of numbers.
    pub token_names: Option<String>,
    /// Whether to store where each document ends.
    pub document_index: bool,
}

/// Vocabulary and framing.
pub(super) struct Ids {
    pub vocabulary: Vocabulary,
    /// The content of the map's file, if there is one.
    pub map: Option<Vec<u8>>,
    pub framing: Framing,
    pub names: Option<TokenNames>,
}

impl Ids {
    /// For `codes` codes with `pixels` pixels per position; `None` for tokens in a sequence.
    pub fn new(options: &IdOptions, format: FormatKind, codes: u32, pixels: Option<u32>) -> Result<Self> {
        let preset = options.preset.map(|preset| preset.ids(codes, pixels)).transpose()?;
        let PresetIds { offset, framing } =
            preset.unwrap_or(PresetIds { offset: Some(0), framing: Framing::default() });
        let map = match &options.vocab_map {
            None => None,
            Some(path) => Some(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
        };
        let vocabulary = match (&map, options.vocab_offset.or(offset)) {
            (Some(json), _) => {
                let path = options.vocab_map.clone().unwrap_or_default();
                Vocabulary::map(json, codes, &path.display().to_string())?
            }
            (None, Some(offset)) => Vocabulary::offset(offset, codes)?,
            (None, None) => {
                let preset = options.preset.map_or("", |preset| preset.name());
                return Err(Misuse(format!(
                    "preset {preset} has its codes' ids in a table; give it with --vocab-map, a JSON array of one id for each code"
                ))
                .into());
            }
        };
        let framing = framed(options, framing);
        if pixels.is_none() && framing.needs_grid() {
            return Err(Misuse(
                "--eol, --size-tokens and presets with them tell the rows of a grid, and the tokens of this tokenizer are a \
                 sequence; leave them out"
                    .into(),
            )
            .into());
        }
        framing.check(&vocabulary, options.vocab_size)?;
        let names = names(options, format, &vocabulary, &framing)?;
        if options.document_index && !format.format().takes_document_index() {
            let formats = FormatKind::list(|format| format.takes_document_index(), "and");
            return Err(Misuse(format!(
                "--document-index is for --format {formats}; other formats know where documents end"
            ))
            .into());
        }
        Ok(Self { vocabulary, map, framing, names })
    }
}

/// The preset's framing, with the ids that single flags override.
fn framed(options: &IdOptions, preset: Framing) -> Framing {
    Framing {
        bos: options.bos.or(preset.bos),
        boi: options.boi.or(preset.boi),
        img: options.img.or(preset.img),
        eol: options.eol.or(preset.eol),
        eof: options.eof.or(preset.eof),
        eoi: options.eoi.or(preset.eoi),
        eos: options.eos.or(preset.eos),
        eod: options.append_eod.or(preset.eod),
        size: options.size_tokens.unwrap_or(preset.size),
    }
}

fn names(
    options: &IdOptions,
    format: FormatKind,
    vocabulary: &Vocabulary,
    framing: &Framing,
) -> Result<Option<TokenNames>> {
    let Some(pattern) = &options.token_names else { return Ok(None) };
    if !format.format().takes_names() {
        let formats = FormatKind::list(|format| format.takes_names(), "and");
        return Err(Misuse(format!("--token-names is for --format {formats}; {format} holds numbers")).into());
    }
    let Some(offset) = vocabulary.first_id() else {
        return Err(Misuse(
            "--token-names and --vocab-map exclude each other; names count codes from an offset".into(),
        )
        .into());
    };
    if !framing.is_bare() {
        return Err(Misuse(
            "--token-names names codes alone; leave out framing, and put it into your template".into(),
        )
        .into());
    }
    Ok(Some(TokenNames::new(pattern, offset, vocabulary.codes())?))
}
