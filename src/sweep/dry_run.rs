//! A description of what a comparison would run.

use std::fmt::Write as _;

use anyhow::Result;

use super::collect::in_words;
use super::{Plan, Source};
use pixtok_images::data::Dataset;

/// Describes the base, the arms and the `images`, which may be missing.
pub(super) fn words(plan: &Plan, images: &Result<Dataset>) -> Result<String> {
    let mut text = format!("# the base, with what the sweep changes for all\n{}\n", plan.base.to_toml()?);
    let seeds = plan.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let trained = plan.arms.iter().filter(|arm| matches!(arm.source, Source::Trained(_))).count();
    let _ = writeln!(
        text,
        "# arms: {}, {trained} of them trained with each of the seeds {seeds}: {} trainings of {} steps",
        plan.arms.len(),
        trained * plan.seeds.len(),
        plan.base.train.steps
    );
    let _ = match images {
        Ok(val_set) => writeln!(text, "# images: {} for evaluation", plan.base.eval.images_of(val_set.len())),
        Err(error) => writeln!(text, "# images: none here: {error:#}"),
    };
    for arm in &plan.arms {
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
    }
    Ok(text)
}
