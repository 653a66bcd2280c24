//! The meaning of each figure, defined once for tables, reports and docs.

use super::groups::Group::{
    self, CodebookBalance, CodebookUse, Evaluated, Fidelity, Perceptual, Rate, SeveralCodebooks, Speed,
    Stability,
};

/// Which direction of a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
    /// Neither: the figure describes and does not rank. For example, the usage of a small codebook
    /// is higher than that of a large one because of its size.
    Neither,
}

/// The images over which a figure is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Each image separately: the figure is a mean over images, and can be taken over some of them.
    Images,
    /// All images of an evaluation together: over other images it is a different figure.
    Set,
    /// No particular images: counts, sizes, speeds.
    Neither,
}

/// The definition of a figure.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The name in JSON, logs and tables.
    pub name: &'static str,
    /// The table of a report that it stands in.
    pub group: Group,
    /// Which direction is better.
    pub better: Better,
    /// The images over which it is computed.
    pub over: Over,
    /// The least height and width of images, in pixels, for which it can be computed. Each metric
    /// derives its own; a test compares them.
    pub least_side: i64,
    /// The number of significant digits after the point.
    pub digits: usize,
    /// Unit and definition, in one line.
    pub text: &'static str,
    /// Known values of the scale, in one line; empty for counts and where none are known.
    pub landmarks: &'static str,
}

impl Definition {
    /// The definition with the landmarks of its scale.
    #[must_use]
    pub fn words(&self) -> String {
        if self.landmarks.is_empty() {
            return self.text.to_owned();
        }
        format!("{}. Landmarks: {}", self.text, self.landmarks)
    }

    const fn landmarks(self, landmarks: &'static str) -> Self {
        Self { landmarks, ..self }
    }
}

/// Every figure of an evaluation that is a single number, in the order of the tables.
pub const DEFINITIONS: &[Definition] = &[
    figure("images", Evaluated, Better::Neither, 0, "images evaluated"),
    figure(
        "images_shared",
        Evaluated,
        Better::Neither,
        0,
        "images that every arm and seed has, if they differ; means over images are taken over these",
    ),
    mean(
        "psnr_db",
        Fidelity,
        Better::Higher,
        2,
        1,
        "dB; 10·log10(255²/MSE) per image, 100 for a perfect copy, mean over images",
    )
    .landmarks(
        "on the embedded photographs JPEG of quality 10 has 28.7 (blocks everywhere) and of \
         quality 50 34.8 (hard to see), a blur of 2 pixels 31.0 and of 4 pixels 27.4; published \
         16-fold tokenizers of ImageNet have 20 to 22",
    ),
    mean(
        "ssim",
        Fidelity,
        Better::Higher,
        4,
        11,
        "structural similarity: Gaussian window 11×11, σ 1.5, per channel, data range 255, valid region, mean over images",
    )
    .landmarks(
        "1 is a perfect copy; on the embedded photographs JPEG of quality 10 has 0.76 and of \
         quality 50 0.91, a blur of 2 pixels 0.77 and of 4 pixels 0.66",
    ),
    mean(
        "ms_ssim",
        Fidelity,
        Better::Higher,
        4,
        176,
        "multi-scale SSIM, the five standard weights, mean over images",
    )
    .landmarks("1 is a perfect copy; it lies above ssim, since coarse scales count too"),
    mean("l1", Fidelity, Better::Lower, 2, 1, "mean absolute error in levels of 255, mean over images")
        .landmarks(
            "0 is a perfect copy; on the embedded photographs JPEG of quality 10 has 7.4 and of \
             quality 50 3.7, a blur of 2 pixels 6.0 and of 4 pixels 9.0",
        ),
    mean(
        "ssimulacra2",
        Perceptual,
        Better::Higher,
        2,
        113,
        "SSIMULACRA 2: 100 is a perfect copy, 90 is hard to tell, mean over images",
    )
    .landmarks(
        "by its authors 30 is poor, 50 fair, 70 good, and at 90 nobody sees a difference; it may \
         be negative",
    ),
    mean(
        "lpips_alex",
        Perceptual,
        Better::Lower,
        4,
        31,
        "LPIPS 0.1 with AlexNet, inputs in [−1, 1], mean over images",
    )
    .landmarks("0 is a perfect copy; not comparable with lpips_vgg"),
    mean(
        "lpips_vgg",
        Perceptual,
        Better::Lower,
        4,
        16,
        "LPIPS 0.1 with VGG16, inputs in [−1, 1], mean over images",
    )
    .landmarks("0 is a perfect copy; not comparable with lpips_alex"),
    of_set(
        "rfid",
        Perceptual,
        Better::Lower,
        2,
        "Fréchet distance of 2048 Inception features between the reconstructions and the originals evaluated",
    )
    .landmarks(
        "0 if both have the same statistics; on the 50,000 validation images of ImageNet at \
         256×256 pixels the 16-fold LlamaGen has 2.19 and Cosmos DI16x16 4.57; fewer images give \
         more",
    ),
    of_set(
        "perfect_images",
        Evaluated,
        Better::Neither,
        0,
        "images whose reconstruction is equal in every value",
    ),
    of_set(
        "tokens",
        Evaluated,
        Better::Neither,
        0,
        "positions of all images; several codebooks at one position are one token",
    ),
    figure(
        "codebooks",
        Evaluated,
        Better::Neither,
        0,
        "number of codebooks; their codes at one position form one token",
    ),
    figure("codebook_size", Evaluated, Better::Neither, 0, "K, the number of codes of each codebook"),
    of_set("usage", CodebookUse, Better::Neither, 4, "share of codes that occur among all tokens evaluated")
        .landmarks("1 if every code occurs; read it beside usage_expected_uniform"),
    of_set(
        "usage_expected_uniform",
        CodebookUse,
        Better::Neither,
        4,
        "expected usage of as many tokens drawn evenly: 1 − (1 − 1/K)^tokens",
    ),
    of_set(
        "usage_batch",
        CodebookUse,
        Better::Neither,
        4,
        "share of codes that occur in a batch, mean over batches",
    ),
    of_set(
        "usage_64k",
        CodebookUse,
        Better::Neither,
        4,
        "share of codes that occur among the last 65,536 tokens (of each process, averaged)",
    ),
    of_set(
        "perplexity",
        CodebookBalance,
        Better::Neither,
        1,
        "number of evenly used codes with the same entropy: 2^entropy_bits",
    )
    .landmarks("K if all codes occur equally often"),
    of_set(
        "entropy_bits",
        CodebookBalance,
        Better::Neither,
        3,
        "−Σ p·log2 p over the codes' shares p of all tokens",
    )
    .landmarks("log2 K if all codes occur equally often"),
    of_set("dead_codes", CodebookBalance, Better::Neither, 0, "codes that never occur"),
    of_set("largest_share", CodebookBalance, Better::Neither, 4, "share of the most frequent code"),
    of_set(
        "codes_joint",
        SeveralCodebooks,
        Better::Neither,
        0,
        "different tuples of codes, over several codebooks",
    ),
    of_set("usage_joint", SeveralCodebooks, Better::Neither, 6, "share of codes_joint among all tuples"),
    of_set(
        "usage_joint_expected_uniform",
        SeveralCodebooks,
        Better::Neither,
        6,
        "expected usage_joint of as many tokens drawn evenly over all tuples",
    ),
    of_set("entropy_bits_joint", SeveralCodebooks, Better::Neither, 3, "−Σ p·log2 p over the tuples"),
    of_set(
        "perplexity_joint",
        SeveralCodebooks,
        Better::Neither,
        1,
        "number of evenly used tuples with the same entropy: 2^entropy_bits_joint",
    ),
    figure("bits_per_token", Rate, Better::Neither, 3, "log2 K, summed over codebooks"),
    of_set(
        "bits_per_token_zstd",
        Rate,
        Better::Neither,
        3,
        "bits per token in a file of all tokens, compressed by zstd",
    ),
    of_set("bits_per_pixel", Rate, Better::Neither, 4, "bits_per_token × tokens / pixels")
        .landmarks("24 without compression"),
    of_set("bits_per_pixel_zstd", Rate, Better::Neither, 4, "bits_per_token_zstd × tokens / pixels"),
    of_set(
        "stability_shift",
        Stability,
        Better::Higher,
        4,
        "share of tokens unchanged when the image moves by one pixel",
    )
    .landmarks("1 if no token changes"),
    of_set(
        "stability_jpeg75",
        Stability,
        Better::Higher,
        4,
        "share of tokens unchanged after JPEG of quality 75",
    )
    .landmarks("1 if no token changes"),
    of_set(
        "stability_flip",
        Stability,
        Better::Higher,
        4,
        "share of tokens unchanged under a horizontal flip, tokens flipped back",
    )
    .landmarks("1 if no token changes"),
    of_set(
        "stability_reencode",
        Stability,
        Better::Higher,
        4,
        "share of tokens unchanged when the reconstruction is encoded",
    )
    .landmarks("1 if no token changes"),
    figure("encode_images_per_sec", Speed, Better::Higher, 1, "images to tokens, without reading files"),
    figure("decode_images_per_sec", Speed, Better::Higher, 1, "tokens to images, without writing files"),
    figure(
        "train_images_per_sec",
        Speed,
        Better::Higher,
        1,
        "training, reading files included; median over the log",
    ),
];

const fn figure(
    name: &'static str,
    group: Group,
    better: Better,
    digits: usize,
    text: &'static str,
) -> Definition {
    Definition { name, group, better, over: Over::Neither, least_side: 1, digits, text, landmarks: "" }
}

const fn of_set(
    name: &'static str,
    group: Group,
    better: Better,
    digits: usize,
    text: &'static str,
) -> Definition {
    Definition { over: Over::Set, ..figure(name, group, better, digits, text) }
}

const fn mean(
    name: &'static str,
    group: Group,
    better: Better,
    digits: usize,
    least_side: i64,
    text: &'static str,
) -> Definition {
    Definition { over: Over::Images, least_side, ..figure(name, group, better, digits, text) }
}

/// The definition of a figure, if it has one.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_that_ranks_has_landmarks() {
        for definition in DEFINITIONS {
            let scale = definition.better != Better::Neither && definition.over != Over::Neither;
            assert!(!scale || !definition.landmarks.is_empty(), "{}", definition.name);
        }
        let words = definition("stability_flip").unwrap().words();
        assert!(words.ends_with("tokens flipped back. Landmarks: 1 if no token changes"), "{words}");
        assert_eq!(definition("images").unwrap().words(), "images evaluated");
    }
}
