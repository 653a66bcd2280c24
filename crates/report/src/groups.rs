//! Groups of columns. A single table of all figures would fit neither a phone nor a sheet of paper.

use super::columns::Column;

/// A group of figures that share a table.
pub(super) struct ColumnGroup {
    pub title: &'static str,
    names: &'static [&'static str],
}

impl ColumnGroup {
    /// The columns that belong to this group.
    pub(super) fn of<'a>(&self, columns: &'a [Column]) -> Vec<&'a Column> {
        columns.iter().filter(|column| self.names.contains(&column.definition.name)).collect()
    }
}

/// All groups. Every figure is in exactly one of them.
pub(super) const GROUPS: &[ColumnGroup] = &[
    group("Fidelity", &["psnr_db", "ssim", "ms_ssim", "l1"]),
    group("Perceptual quality", &["ssimulacra2", "lpips_alex", "lpips_vgg", "rfid"]),
    group("Codebook use", &["usage", "usage_expected_uniform", "usage_batch", "usage_64k"]),
    group("Codebook balance", &["perplexity", "entropy_bits", "dead_codes", "largest_share"]),
    group("Rate", &["bits_per_token", "bits_per_token_zstd", "bits_per_pixel", "bits_per_pixel_zstd"]),
    group("Stability", &["stability_shift", "stability_jpeg75", "stability_flip", "stability_reencode"]),
    group("Speed", &["encode_images_per_sec", "decode_images_per_sec", "train_images_per_sec"]),
    group(
        "Several codebooks together",
        &[
            "codes_joint",
            "usage_joint",
            "usage_joint_expected_uniform",
            "entropy_bits_joint",
            "perplexity_joint",
        ],
    ),
    group(
        "What was evaluated",
        &["images", "images_shared", "perfect_images", "tokens", "codebooks", "codebook_size"],
    ),
];

const fn group(title: &'static str, names: &'static [&'static str]) -> ColumnGroup {
    ColumnGroup { title, names }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::DEFINITIONS;

    #[test]
    fn every_figure_has_one_place() {
        for definition in DEFINITIONS {
            let places = GROUPS.iter().filter(|group| group.names.contains(&definition.name)).count();
            assert_eq!(places, 1, "{}", definition.name);
        }
        let names: usize = GROUPS.iter().map(|group| group.names.len()).sum();
        assert_eq!(names, DEFINITIONS.len(), "a group names what is no figure");
    }
}
