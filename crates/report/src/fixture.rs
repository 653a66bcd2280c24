//! Comparisons for tests.

use serde_json::Value;

use super::{Arm, Comparison, Curve, Exhibit, FORMAT_VERSION, Run, Summary};
use pixtok_images::picture::Picture;

/// A comparison of arms, each given as `(name, series, figures of each seed)`.
pub(super) fn comparison(arms: &[(&str, &str, &[Value])]) -> Comparison {
    let arm = |&(name, series, seeds): &(&str, &str, &[Value])| {
        let run = |(seed, figures): (usize, &Value)| Run {
            seed: Some(seed as u64),
            path: format!("arms/{name}/seed-{seed}"),
            figures: figures.as_object().unwrap().clone(),
            failure: None,
            left_out: vec![],
            notes: vec![],
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
        of_own_images: vec![],
        pairs: vec![],
    }
}

/// Made-up curves, codes and reconstructions.
pub(super) fn exhibit(comparison: &Comparison, arm: usize, originals: &[Picture]) -> Exhibit {
    let curve = |name: &str, scale: f64, run: usize| Curve {
        name: name.to_owned(),
        points: (1..=40u64)
            .map(|at| (10 * at, scale * (1.0 + (run + arm) as f64 / 10.0) / at as f64))
            .collect(),
    };
    let run = |run| {
        vec![curve("loss/total", 0.3, run), curve("val/psnr_db", 27.0, run), curve("val/usage", 0.9, run)]
    };
    let darker = |picture: &Picture| Picture {
        rgb: picture.rgb.iter().map(|value| value.saturating_sub(arm as u8 + 1)).collect(),
        ..*picture
    };
    Exhibit {
        curves: (0..comparison.arms[arm].runs.len()).map(run).collect(),
        code_counts: (1..=200).rev().collect(),
        reconstructions: originals.iter().map(darker).collect(),
    }
}

/// A picture that differs for each `seed`.
pub(super) fn picture(width: usize, height: usize, seed: usize) -> Picture {
    let rgb = (0..3 * width * height).map(|at| ((at + seed) * 7 % 251) as u8).collect();
    Picture { width, height, rgb }
}
