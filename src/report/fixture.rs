//! Comparisons for the tests.

use serde_json::Value;

use super::{Arm, Comparison, FORMAT_VERSION, Run, Summary};

/// Arms of `(name, series, figures of each seed)`.
pub(super) fn comparison(arms: &[(&str, &str, &[Value])]) -> Comparison {
    let arm = |&(name, series, seeds): &(&str, &str, &[Value])| {
        let run = |(seed, figures): (usize, &Value)| Run {
            seed: Some(seed as u64),
            path: format!("arms/{name}/seed-{seed}"),
            figures: figures.as_object().unwrap().clone(),
            failure: None,
        };
        let runs: Vec<Run> = seeds.iter().enumerate().map(run).collect();
        let codebook_size = runs.iter().find_map(|run| run.figures.get("codebook_size")?.as_i64());
        let summary = Summary::of(&runs);
        Arm {
            name: name.to_owned(),
            series: series.to_owned(),
            codebook_size,
            parameters: Some(250_123),
            differences: vec![],
            runs,
            summary,
        }
    };
    Comparison {
        format_version: FORMAT_VERSION,
        name: "test".to_owned(),
        protocol: vec![("steps".to_owned(), "600".to_owned())],
        environment: vec![("pixtok".to_owned(), "0.1.0".to_owned())],
        base_config: "[train]\nsteps = 600\n".to_owned(),
        arms: arms.iter().map(arm).collect(),
    }
}
