//! Refuses settings that are out of range or do not fit each other.

use super::per_stage::PerStage;
use super::plan::{Config, Plan, VQGAN_GROUPS, Variant};
use crate::model::ModelError;

/// The most levels of the Haar transform: 768 channels of patches of 16×16 pixels.
const MOST_HAAR_LEVELS: i64 = 4;

impl Config {
    /// Checks what can be checked without an image size and a quantizer.
    pub(super) fn check_ranges(&self) -> Result<(), ModelError> {
        let fail = |message: String| Err(ModelError::Network(message));
        if self.multipliers.is_empty() {
            return fail("model.multipliers is empty; give one per stage, like [1, 2, 4]".into());
        }
        if !(0..=MOST_HAAR_LEVELS).contains(&self.haar_levels) {
            return fail(format!(
                "model.haar_levels is {}; it must be from 0 to {MOST_HAAR_LEVELS}",
                self.haar_levels
            ));
        }
        let ranges = [
            ("channels", vec![self.channels], 65536),
            ("multipliers", self.multipliers.clone(), 1024),
            ("decoder_multipliers", self.decoder_multipliers.clone().unwrap_or_default(), 1024),
            ("strides", self.strides.clone().unwrap_or_default(), 64),
            ("decoder_strides", self.decoder_strides.clone().unwrap_or_default(), 64),
            ("res_blocks", self.res_blocks.numbers(), 1024),
            (
                "decoder_res_blocks",
                self.decoder_res_blocks.as_ref().map_or_else(Vec::new, PerStage::numbers),
                1024,
            ),
            ("norm_groups", self.norm_groups.into_iter().collect(), 65536),
            ("latent_channels", self.latent_channels.into_iter().collect(), 65536),
        ];
        for (key, values, most) in ranges {
            if let Some(value) = values.iter().find(|value| !(1..=most).contains(*value)) {
                return fail(format!("model.{key} has {value}; it must be from 1 to {most}"));
            }
        }
        if self.variant == Variant::Vqgan && self.strides.iter().flatten().any(|&stride| stride > 2) {
            return fail("model.strides has one over 2, and model.variant is vqgan, whose padding is for 2; leave one out".into());
        }
        self.check_lengths()
    }

    /// Checks that lists have an entry for each stage or gap, and that the decoder makes images of
    /// the size that the encoder takes.
    fn check_lengths(&self) -> Result<(), ModelError> {
        let fail = |message: String| Err(ModelError::Network(message));
        let stages = self.multipliers.len();
        for (key, strides) in [("strides", &self.strides), ("decoder_strides", &self.decoder_strides)] {
            let entries = strides.as_ref().map_or(stages, Vec::len);
            if entries != stages && entries + 1 != stages {
                return fail(format!(
                    "model.{key} has {entries} entries; {stages} stages have {} gaps between them, and at most one stride \
                     more follows the last",
                    stages - 1
                ));
            }
        }
        let of_blocks = |blocks: &PerStage| match blocks {
            PerStage::All(_) => stages,
            PerStage::Each(numbers) => numbers.len(),
        };
        for (key, entries) in [
            ("res_blocks", of_blocks(&self.res_blocks)),
            ("decoder_res_blocks", self.decoder_res_blocks.as_ref().map_or(stages, of_blocks)),
            ("decoder_multipliers", self.decoder_multipliers.as_ref().map_or(stages, Vec::len)),
        ] {
            if entries != stages {
                return fail(format!(
                    "model.{key} has {entries} entries, and model.multipliers has {stages}; give one for each stage"
                ));
            }
        }
        let product =
            |strides: &[i64]| strides.iter().fold(1_i64, |product, &stride| product.saturating_mul(stride));
        let down = product(&self.encoder_strides());
        let up = self.decoder_strides.as_deref().map_or(down, product);
        if up != down {
            return fail(format!(
                "model.decoder_strides enlarge by {up}, and model.strides reduce by {down}; choose some of the same product"
            ));
        }
        Ok(())
    }
}

impl Plan {
    /// Checks that every width divides into its groups.
    pub(super) fn check_groups(&self) -> Result<(), ModelError> {
        let widths = self.stages.iter().flat_map(|stage| [stage.channels, stage.decoder_channels]);
        for channels in widths.chain([self.stem_channels]) {
            let groups = self.groups(channels);
            if channels % groups == 0 {
                continue;
            }
            let (why, instead) = match self.variant {
                Variant::Vqgan if groups == VQGAN_GROUPS => (
                    ", which every normalisation has where model.variant is vqgan",
                    "leave model.variant out".to_owned(),
                ),
                _ => ("", format!("set model.norm_groups to a divisor of {channels}")),
            };
            return Err(ModelError::Network(format!(
                "{channels} channels do not divide into {groups} normalisation groups{why}; choose model.channels as \
                 a multiple of {groups} or {instead}"
            )));
        }
        Ok(())
    }
}
