//! The figures of an evaluation: as named values for the logs, as a table for people, as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::metrics::{CodebookFigures, JointFigures};

/// What an evaluation measures; the names are those of `pixtok eval --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Images evaluated.
    pub images: usize,
    /// Mean over images of the peak signal-to-noise ratio of 8-bit values, in dB.
    pub psnr_db: f64,
    /// Mean structural similarity; absent for images under 11 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    /// Mean absolute error in 8-bit levels (0 to 255).
    pub l1: f64,
    /// Images reconstructed without any error, whose PSNR counts as 100 dB.
    pub perfect_images: i64,
    /// Codebooks whose codes make one token together.
    pub codebooks: i64,
    /// K, of each.
    pub codebook_size: i64,
    /// Of the codebook over all tokens.
    #[serde(flatten)]
    pub codebook: CodebookFigures,
    /// Of several codebooks together.
    #[serde(flatten)]
    pub joint: Option<JointFigures>,
    /// Bits of all tokens of an image over its pixels.
    pub bits_per_pixel: f64,
}

impl Figures {
    /// Every figure with its name, for the logs.
    #[must_use]
    pub fn named(&self) -> Vec<(String, f64)> {
        let mut named = vec![("psnr_db".to_owned(), self.psnr_db), ("l1".to_owned(), self.l1)];
        named.extend(self.codebook.named());
        named.push(("entropy_bits".to_owned(), self.codebook.entropy_bits));
        if let Some(joint) = &self.joint {
            named.push(("usage_joint".to_owned(), joint.usage_joint));
            named.push(("perplexity_joint".to_owned(), joint.perplexity_joint));
        }
        named.extend(self.ssim.map(|ssim| ("ssim".to_owned(), ssim)));
        named
    }

    /// A table for people, one figure a line.
    #[must_use]
    pub fn table(&self) -> String {
        let codebook = &self.codebook;
        let ssim = self.ssim.map_or_else(|| "absent: images under 11 px".into(), |ssim| format!("{ssim:.4}"));
        let list = |values: &[f64], digits: usize| {
            values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
        };
        let mut rows = vec![
            ("images", self.images.to_string(), String::new()),
            ("psnr_db", format!("{:.2}", self.psnr_db), "dB, 8-bit, mean over images".into()),
            ("ssim", ssim, "mean over images".into()),
            ("l1", format!("{:.2}", self.l1), "levels of 255".into()),
            ("tokens", codebook.tokens.to_string(), String::new()),
            ("codebook_size", self.codebook_size.to_string(), self.codebooks_meaning()),
            (
                "usage",
                format!("{:.4}", codebook.usage),
                format!("share of codes hit; {:.4} were they drawn evenly", codebook.usage_expected_uniform),
            ),
            ("perplexity", format!("{:.1}", codebook.perplexity), "codes in even use, 2^entropy_bits".into()),
            ("entropy_bits", format!("{:.3}", codebook.entropy_bits), "of a code".into()),
            ("dead_codes", codebook.dead_codes.to_string(), String::new()),
            ("largest_share", format!("{:.4}", codebook.largest_share), "of the most frequent code".into()),
            (
                "bits_per_token",
                format!("{:.3}", codebook.bits_per_token),
                "log2 K, summed over codebooks".into(),
            ),
            ("bits_per_pixel", format!("{:.4}", self.bits_per_pixel), String::new()),
        ];
        if let Some(joint) = &self.joint {
            rows.extend([
                ("usage_by_codebook", list(&codebook.usage_by_codebook, 4), String::new()),
                ("perplexity_by_codebook", list(&codebook.perplexity_by_codebook, 1), String::new()),
                (
                    "codes_joint",
                    joint.codes_joint.to_string(),
                    format!(
                        "different tuples: {:.2e} of all; {:.2e} were they drawn evenly",
                        joint.usage_joint, joint.usage_joint_expected_uniform
                    ),
                ),
                ("perplexity_joint", format!("{:.1}", joint.perplexity_joint), "tuples in even use".into()),
            ]);
        }
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        rows.iter().fold(String::new(), |mut table, (name, value, meaning)| {
            let _ = writeln!(table, "{}", format!("  {name:<width$} {value:>10}  {meaning}").trim_end());
            table
        })
    }

    fn codebooks_meaning(&self) -> String {
        match self.codebooks {
            1 => String::new(),
            several => format!(
                "each of {several} codebooks: usage and entropy_bits are means, dead_codes a sum, largest_share the most"
            ),
        }
    }
}
