//! From what is asked for to vocabulary and framing.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use pixtok_base::Misuse;
use pixtok_tokens::{
    Arrangement, Dtype, FormatKind, Framing, Preset, PresetIds, SizeTokens, TokenNames, Vocabulary,
};

/// From codes to stored ids. Single ids replace those of the preset.
#[derive(Debug, Clone, Default)]
pub struct IdOptions {
    /// Vocabulary and framing of a published model.
    pub preset: Option<Preset>,
    /// The id of code 0.
    pub vocab_offset: Option<u32>,
    /// A JSON array with the id of each code.
    pub vocab_map: Option<PathBuf>,
    /// Ids must be below this.
    pub vocab_size: Option<u64>,
    /// Number type of the ids.
    pub dtype: Option<Dtype>,
    /// Before everything.
    pub bos: Option<u32>,
    /// Where the image begins.
    pub boi: Option<u32>,
    /// Before the first code, after the size.
    pub img: Option<u32>,
    /// After every row of the grid.
    pub eol: Option<u32>,
    /// After the last row.
    pub eof: Option<u32>,
    /// Where the image ends.
    pub eoi: Option<u32>,
    /// After everything.
    pub eos: Option<u32>,
    /// Ends the document.
    pub append_eod: Option<u32>,
    /// How ids tell the size of the grid.
    pub size_tokens: Option<SizeTokens>,
    /// Digits in place of each index.
    pub digits: bool,
    /// The order of several codebooks or digits.
    pub arrange: Option<Arrangement>,
    /// Names in place of numbers, by this pattern.
    pub token_names: Option<String>,
    /// Also where each document ends.
    pub document_index: bool,
}

/// Where codes lie, and what stands around them.
pub(super) struct Ids {
    pub vocabulary: Vocabulary,
    /// The map's file, if there is one.
    pub map: Option<Vec<u8>>,
    pub framing: Framing,
    pub names: Option<TokenNames>,
}

impl Ids {
    /// For `codes` codes at `pixels` pixels a position; `None` for tokens in a sequence.
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
        if options.document_index && format != FormatKind::Raw {
            return Err(Misuse(
                "--document-index is for --format raw; other formats know where documents end".into(),
            )
            .into());
        }
        Ok(Self { vocabulary, map, framing, names })
    }
}

/// The preset's framing, with what single flags say in its place.
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
    if format != FormatKind::Jsonl {
        return Err(Misuse(format!("--token-names is for --format jsonl; {format} holds numbers")).into());
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
