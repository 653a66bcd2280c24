//! The jobs of a comparison.

use std::path::PathBuf;

use anyhow::Result;

use super::diverged::Machine;
use super::existing::Tried;
use super::job::Job;
use super::layout::Layout;
use super::problems::Problems;
use super::{Plan, Source};
use crate::run::{Tell, loss_weights_among, weights};
use pixtok_images::data::Dataset;

/// Weights of the network that an arm's loss needs: the file and its hash.
pub(super) type LossWeights = Option<(PathBuf, String)>;

/// The weights that each arm needs, from the LPIPS weights that are `given`.
pub(super) fn loss_weights(plan: &Plan, given: &[PathBuf], problems: &mut Problems) -> Vec<LossWeights> {
    let of_arm = |source: &Source| {
        let Source::Trained(config) = source else { return Ok(None) };
        let Some(path) = loss_weights_among(given, &config.loss)? else { return Ok(None) };
        let hash = weights::hash(&path)?;
        anyhow::Ok(Some((path, hash)))
    };
    let mut known: Vec<String> = vec![];
    let mut found = vec![];
    for arm in &plan.arms {
        let weights = of_arm(&arm.source).unwrap_or_else(|error| {
            // What is missing for one arm is often missing for all.
            let words = format!("{error:#}");
            if !known.contains(&words) {
                problems.keep(Err::<(), _>(error));
                known.push(words);
            }
            None
        });
        found.push(weights);
    }
    found
}

/// Seed by seed, so that a whole table is there as early as can be. `identity` stands for the
/// evaluation: what is measured, with which weights, on which images. `machines` are those that the
/// comparison runs on. `tried` has what was found of each arm that exists already.
pub(super) fn list(
    plan: &Plan,
    layout: &Layout,
    identity: &str,
    machines: &[Machine],
    train_set: Option<&Dataset>,
    loss_weights: &[LossWeights],
    tried: &[Option<Tried>],
) -> Result<Vec<Job>> {
    let train_set = train_set.map(Dataset::fingerprint);
    let mut jobs = vec![];
    for (i, &seed) in plan.seeds.iter().enumerate() {
        for (arm, (planned, weights)) in plan.arms.iter().zip(loss_weights).enumerate() {
            let name = &planned.name;
            let (seed, label, tokenizer) = match &planned.source {
                Source::Trained(_) => {
                    (Some(seed), format!("{name} seed {seed}"), layout.run(name, Some(seed)))
                }
                // An existing tokenizer is evaluated once, whatever the seeds.
                Source::Existing { path, .. } if i == 0 => (None, name.clone(), path.clone()),
                Source::Existing { .. } => continue,
            };
            let config = seed.and_then(|seed| planned.config(seed));
            // What the figures of the tokenizer depend on.
            let text = match (&config, &tried[arm]) {
                (Some(config), _) => config.to_toml()?,
                (None, tried) => tried.as_ref().map_or_else(String::new, |tried| tried.identity.clone()),
            };
            let (loss_weights, hash) = weights.clone().unzip();
            let parts = [&text, identity].into_iter().chain(hash.as_deref()).collect::<Vec<_>>();
            jobs.push(Job {
                arm,
                seed,
                label,
                folder: layout.run(name, seed),
                loss_weights,
                tokenizer,
                protocol: layout.protocol(),
                fingerprint: blake3::hash(parts.join("\0").as_bytes()).to_hex().to_string(),
                train_set: config.as_ref().and_then(|_| train_set.clone()),
                trained_on: vec![],
                machines: machines.to_vec(),
                config,
            });
        }
    }
    Ok(jobs)
}

/// Reports which trainings are not tried again, and why.
pub(super) fn tell_diverged(jobs: &[Job], tell: Tell) {
    for (job, failure) in jobs.iter().filter_map(|job| Some((job, job.diverged()?))) {
        let label = &job.label;
        tell.say(&format!(
            "{label}: not trained again, since it would fail again in the same way: {failure}"
        ));
    }
}

/// Describes what the same command would do about `failed` runs.
pub(super) fn outlook(jobs: &[Job], failed: usize) -> String {
    let diverged = jobs.iter().filter(|job| job.diverged().is_some()).count();
    let words = match failed.saturating_sub(diverged) {
        0 => "their settings have to change".to_owned(),
        again if again == failed => "the same command tries them again".to_owned(),
        again => format!("the same command tries {again} of them again"),
    };
    format!("{failed} of {} runs failed; {words}", jobs.len())
}
