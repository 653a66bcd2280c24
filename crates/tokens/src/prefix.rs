//! Sets that hold only the first tokens of each image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// States that a set has only the first tokens or codebooks of each image. How many it has stands
/// where it always does: in the grid, or in the number of codebooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedPrefix {
    /// Whether it has fewer tokens or fewer codebooks.
    pub axis: PrefixAxis,
    /// How many the tokenizer makes.
    pub of: u32,
}

impl StatedPrefix {
    /// The prefix of this length in words.
    #[must_use]
    pub fn words(self, length: u32) -> String {
        let of_each = match self.axis {
            PrefixAxis::Tokens => "image",
            PrefixAxis::Codebooks => "token",
        };
        format!("the first {length} of the {} {} of each {of_each}", self.of, self.axis)
    }
}

/// What a prefix shortens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefixAxis {
    /// The tokens of an image, in a sequence.
    Tokens,
    /// The codebooks of a residual quantizer, where each refines those before it.
    Codebooks,
}

/// The name in words.
impl fmt::Display for PrefixAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Codebooks => "codebooks",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_written_in_words() {
        let prefix = StatedPrefix { axis: PrefixAxis::Codebooks, of: 4 };
        let text = serde_json::to_string(&prefix).unwrap();
        assert_eq!(text, "{\"axis\":\"codebooks\",\"of\":4}");
        assert_eq!(serde_json::from_str::<StatedPrefix>(&text).unwrap(), prefix);
        assert_eq!(prefix.words(3), "the first 3 of the 4 codebooks of each token");
        let prefix = StatedPrefix { axis: PrefixAxis::Tokens, of: 256 };
        assert_eq!(prefix.words(32), "the first 32 of the 256 tokens of each image");
    }
}
