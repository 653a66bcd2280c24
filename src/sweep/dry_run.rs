//! A description of what a comparison would run.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use super::collect::in_words;
use super::{Plan, PlannedArm, Source};
use crate::evaluate;
use pixtok_images::data::{self, Dataset};

/// The part of a config that an evaluation without a training uses.
#[derive(Serialize)]
struct Protocol<'a> {
    data: &'a data::Config,
    eval: &'a evaluate::Config,
}

/// Describes the base, the arms with the `doubts` about each, and the `images`, which may be missing.
/// `out` is the comparison's folder.
pub(super) fn words(
    plan: &Plan,
    images: &Result<Arc<Dataset>>,
    doubts: &[Vec<String>],
    out: &Path,
) -> Result<String> {
    let mut text = if plan.trains() { of_trainings(plan)? } else { of_evaluations(plan)? };
    let _ = match images {
        Ok(val_set) => writeln!(text, "# images: {} for evaluation", plan.base.eval.images_of(val_set.len())),
        Err(error) => writeln!(text, "# images: none here: {error:#}"),
    };
    let _ = writeln!(text, "# results: in {}", out.display());
    for (arm, doubts) in plan.arms.iter().zip(doubts) {
        of_arm(&mut text, arm, plan)?;
        for doubt in doubts {
            let _ = writeln!(text, "# {}: note: {doubt}", arm.name);
        }
    }
    Ok(text)
}

fn of_trainings(plan: &Plan) -> Result<String> {
    let mut text = format!("# the base, with what is changed for all\n{}\n", plan.base.to_toml()?);
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let trained = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Trained(_))).count();
    let _ = writeln!(
        text,
        "# arms: {}, {trained} of them trained with each of the seeds {seeds}: {} trainings of {} steps",
        plan.arms.len(),
        trained * plan.seeds.len(),
        plan.base.train.steps
    );
    Ok(text)
}

fn of_evaluations(plan: &Plan) -> Result<String> {
    let Plan { base, recipe, .. } = plan;
    let protocol = Protocol { data: &base.data, eval: &base.eval };
    let mut text =
        format!("# the protocol, from {}\n{}\n", recipe.path.display(), toml::to_string(&protocol)?);
    let _ = writeln!(text, "# arms: {}, measured as they are; nothing is trained", plan.arms.len());
    Ok(text)
}

fn of_arm(text: &mut String, arm: &PlannedArm, plan: &Plan) -> Result<()> {
    match &arm.source {
        Source::Existing { path, .. } => {
            let _ = writeln!(text, "# {}: {} as it is", arm.name, path.display());
        }
        Source::Trained(config) => {
            let (codebooks, size) = config.quantizer.settings().codes();
            let several = if codebooks > 1 { format!("{codebooks} × ") } else { String::new() };
            let changes = in_words(&config.differences(&plan.base)?);
            let _ = writeln!(text, "# {}: {several}{size} codes; {}", arm.name, changes.join("; "));
            for advice in config.advice()? {
                let _ = writeln!(text, "# {}: note: {advice}", arm.name);
            }
        }
    }
    Ok(())
}
