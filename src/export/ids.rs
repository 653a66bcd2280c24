//! From flags to vocabulary and framing.

use std::fs;

use anyhow::{Context, Result};

use crate::cli::IdArgs;
use crate::commands::Misuse;
use pixtok_tokens::{FormatKind, Framing, PresetIds, TokenNames, Vocabulary};

/// Where codes lie, and what stands around them.
pub(super) struct Ids {
    pub vocabulary: Vocabulary,
    /// The map's file, if there is one.
    pub map: Option<Vec<u8>>,
    pub framing: Framing,
    pub names: Option<TokenNames>,
}

impl Ids {
    /// For `codes` codes at `downsample` pixels a position.
    pub fn new(args: &IdArgs, format: FormatKind, codes: u32, downsample: u32) -> Result<Self> {
        let preset = args.preset.map(|preset| preset.ids(codes, downsample)).transpose()?;
        let PresetIds { offset, framing } =
            preset.unwrap_or(PresetIds { offset: Some(0), framing: Framing::default() });
        let map = match &args.vocab_map {
            None => None,
            Some(path) => Some(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
        };
        let vocabulary = match (&map, args.vocab_offset.or(offset)) {
            (Some(json), _) => {
                let path = args.vocab_map.clone().unwrap_or_default();
                Vocabulary::map(json, codes, &path.display().to_string())?
            }
            (None, Some(offset)) => Vocabulary::offset(offset, codes)?,
            (None, None) => {
                let preset = args.preset.map_or("", |preset| preset.name());
                return Err(Misuse(format!(
                    "preset {preset} has its codes' ids in a table; give it with --vocab-map, a JSON array of one id for each code"
                ))
                .into());
            }
        };
        let framing = framed(args, framing);
        framing.check(&vocabulary, args.vocab_size)?;
        let names = names(args, format, &vocabulary, &framing)?;
        if args.document_index && format != FormatKind::Raw {
            return Err(Misuse(
                "--document-index is for --format raw; other formats know where documents end".into(),
            )
            .into());
        }
        Ok(Self { vocabulary, map, framing, names })
    }
}

/// The preset's framing, with what single flags say in its place.
fn framed(args: &IdArgs, preset: Framing) -> Framing {
    Framing {
        bos: args.bos.or(preset.bos),
        boi: args.boi.or(preset.boi),
        img: args.img.or(preset.img),
        eol: args.eol.or(preset.eol),
        eof: args.eof.or(preset.eof),
        eoi: args.eoi.or(preset.eoi),
        eos: args.eos.or(preset.eos),
        eod: args.append_eod.or(preset.eod),
        size: args.size_tokens.unwrap_or(preset.size),
    }
}

fn names(
    args: &IdArgs,
    format: FormatKind,
    vocabulary: &Vocabulary,
    framing: &Framing,
) -> Result<Option<TokenNames>> {
    let Some(pattern) = &args.token_names else { return Ok(None) };
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
