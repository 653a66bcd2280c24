//! `pixtok eval`: prints the figures of a tokenizer as a table or as JSON.

use std::env;
use std::path::Path;

use anyhow::Result;

use super::options::chosen;
use super::{print, tell};
use crate::cli::EvalArgs;
use crate::inference::{self, AbsentPrefix, EvaluateOptions};
use crate::world::{Launch, World};

/// Evaluates, together with the other processes that a launcher started, and prints the table, or
/// the JSON instead.
pub(super) fn run(args: EvalArgs) -> Result<()> {
    let Some(meeting) = Launch::meeting_of_process(|name| env::var(name).ok())? else {
        return evaluate(&options(args), &World::single());
    };
    meeting.words().iter().filter(|_| meeting.rank == 0).for_each(|text| tell().note(text));
    let world = World::join("evaluate", &meeting, inference::EVALUATION_TIMEOUT)?;
    let outcome = evaluate(&options(args), &world);
    let ending = outcome.as_ref().err().map(|error| format!("{error:#}"));
    world.leave(ending.as_deref());
    outcome
}

/// Evaluates by the library's options and prints the result, in one process of `world`.
pub(super) fn evaluate(options: &EvaluateOptions, world: &World) -> Result<()> {
    let Some(measured) = inference::evaluate(options, world, tell())? else { return Ok(()) };
    let json_alone = options.json.as_deref() == Some(Path::new("-"));
    print(if json_alone { &measured.json } else { &measured.text })
}

fn options(args: EvalArgs) -> EvaluateOptions {
    let (choice, compute) = chosen(args.model, args.positions);
    EvaluateOptions {
        tokenizer: args.tokenizer,
        choice,
        compute,
        data: args.data,
        pick: args.pick.into(),
        protocol: args.protocol,
        batch_size: args.batch_size,
        background: args.background,
        measures: args.measures.into(),
        absent_prefixes: AbsentPrefix::Refuse,
        trained_on: None,
        json: args.json,
        per_image: args.per_image,
        code_counts: args.code_counts,
        pictures: args.pictures,
    }
}
