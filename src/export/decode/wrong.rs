//! Refuses tokens of another tokenizer.

use anyhow::Result;
use serde_json::json;

use super::{DecodeOptions, codec};
use crate::checkpoint::Which;
use crate::logger::Verbosity;
use crate::run::{Opened, Tell, WeightsChoice};
use pixtok_base::Misuse;
use pixtok_tokens::{MadeBy, StatedTokenizer, StatedWeights, TokenSet};

/// What tells two tokenizers apart best, in this order.
const TELLING: [&str; 3] = ["kind ", "codebook_size ", "weights "];

/// Refuses tokens of a different tokenizer, in two lines, or warns of them if they are to be
/// decoded anyway. The other differences are details.
pub(super) fn check(set: &TokenSet, opened: &Opened, options: &DecodeOptions, tell: Tell) -> Result<()> {
    let stated = &set.sidecar.tokenizer;
    let codec = codec(set, opened)?;
    let own = opened.stated(&*codec, stated.digits, stated.numbers, stated.arrangement)?;
    let mut differences = differences(stated, &own);
    if differences.is_empty() {
        return Ok(());
    }
    let tokens = set.folder.display();
    if stated.codebooks != own.codebooks {
        return Err(Misuse(format!(
            "{tokens} has tokens of {} codebook(s), and this tokenizer has {}; nothing can be decoded",
            stated.codebooks, own.codebooks
        ))
        .into());
    }
    let place =
        TELLING.iter().find_map(|&start| differences.iter().position(|words| words.starts_with(start)));
    let first = differences.remove(place.unwrap_or(0));
    let tokenizer = named(opened, options);
    if options.force {
        tell.say(&format!(
            "decoding although {tokens} was made by another tokenizer than {tokenizer}, so the images may be wrong: {first}"
        ));
    }
    for other in &differences {
        tell.detail(|| format!("{tokens}: {other}"));
    }
    if options.force {
        return Ok(());
    }
    let made_by = set.sidecar.made_by.as_ref();
    let of_run = if options.choice.is_open() {
        None
    } else {
        WeightsChoice::any_maker(&options.tokenizer, stated, made_by)
    };
    let maker = match (of_run, made_by) {
        (Some((step, weights)), _) => format!(
            "leave out {} to decode with {}, {} weights, which made it",
            given(options),
            Which::Step(step),
            weights.name()
        ),
        (None, None) => "give the tokenizer that made it (and its --checkpoint and --weights)".to_owned(),
        (None, Some(made_by)) => format!("give the run that made it ({})", in_words(made_by)),
    };
    let others = if differences.is_empty() || Verbosity::chosen() == Verbosity::Verbose {
        String::new()
    } else {
        format!("; -v lists {} other difference(s)", differences.len())
    };
    Err(Misuse(format!(
        "{tokens} was made by another tokenizer than {tokenizer}: {first}\n{maker}, or --force to decode anyway{others}"
    ))
    .into())
}

/// The flags that the user gives to choose among the weights of a run.
fn given(options: &DecodeOptions) -> &'static str {
    match (options.choice.checkpoint, options.choice.weights) {
        (Some(_), None) => "--checkpoint",
        (None, _) => "--weights",
        (Some(_), Some(_)) => "--checkpoint and --weights",
    }
}

/// The tokenizer, as far as it was looked through.
fn named(opened: &Opened, options: &DecodeOptions) -> String {
    let tokenizer = options.tokenizer.display();
    match opened.checkpoint() {
        None => tokenizer.to_string(),
        Some(_) if options.choice.is_open() && !options.force => format!("any checkpoint of {tokenizer}"),
        Some((step, weights)) => format!("{tokenizer} at step {step}, {} weights", weights.name()),
    }
}

fn in_words(MadeBy { run, step, weights }: &MadeBy) -> String {
    let weights = match weights {
        StatedWeights::Raw => "raw",
        StatedWeights::Ema => "ema",
    };
    format!("{run}, step {step}, {weights} weights")
}

/// The differences between two tokenizers that affect their tokens.
fn differences(made_by: &StatedTokenizer, own: &StatedTokenizer) -> Vec<String> {
    let facts = |tokenizer: &StatedTokenizer| {
        let hash: String = tokenizer.tokens_blake3().chars().take(12).collect();
        json!({
            "weights": hash,
            "kind": tokenizer.kind,
            "codebooks": tokenizer.codebooks,
            "codebook_size": tokenizer.codebook_size,
            "digit_order": tokenizer.digit_order,
            "quantizer": tokenizer.quantizer,
        })
    };
    crate::export::differences(&facts(made_by), &facts(own))
}
