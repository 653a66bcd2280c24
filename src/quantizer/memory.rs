//! The memory limit of a quantizer for tables that grow with the codebook: distances,
//! probabilities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tch::Device;

const MEBIBYTE: i64 = 1 << 20;
/// The part of a CPU's cache that is free for a block: blocks of this size are written and read
/// without going to memory.
const CACHE_BYTES: i64 = 8 * MEBIBYTE;

/// The number of whole MiB that hold `bytes`.
pub(super) fn mebibytes(bytes: i64) -> i64 {
    bytes / MEBIBYTE + i64::from(bytes % MEBIBYTE > 0)
}

/// `quantizer.memory_budget`: the largest number of bytes for intermediate results of lookup and
/// loss terms, whatever K. Written as `256MiB` or `1GiB`, for instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    mebibytes: i64,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self { mebibytes: 256 }
    }
}

impl MemoryBudget {
    /// The budget in bytes.
    #[must_use]
    pub fn bytes(self) -> i64 {
        self.mebibytes * MEBIBYTE
    }

    /// The size of the tables that exist at one time; the rest of the budget is for their results.
    pub(super) fn block_bytes(self, device: Device) -> i64 {
        let half = self.bytes() / 2;
        if device.is_cuda() { half } else { half.min(CACHE_BYTES) }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}MiB", self.mebibytes)
    }
}

impl FromStr for MemoryBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = [("MiB", 1), ("GiB", 1024)].iter().find_map(|(unit, mebibytes)| {
            let number: i64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*mebibytes)
        });
        match parsed {
            // The upper limit keeps the number of bytes within an i64.
            Some(mebibytes) if (1..=1 << 40).contains(&mebibytes) => Ok(Self { mebibytes }),
            _ => Err(format!("\"{text}\" is no memory budget; write it like \"256MiB\" or \"1GiB\"")),
        }
    }
}

impl Serialize for MemoryBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = MemoryBudget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"256MiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MemoryBudget, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_with_its_unit() {
        for (text, bytes) in [("1MiB", 1 << 20), ("256 MiB", 256 << 20), ("2GiB", 2 << 30)] {
            let budget: MemoryBudget = text.parse().unwrap();
            assert_eq!(budget.bytes(), bytes);
            assert_eq!(budget.to_string().parse(), Ok(budget));
        }
        for text in ["", "256", "0MiB", "-1MiB", "1.5GiB", "9999999999999999GiB", "1TiB"] {
            assert!(text.parse::<MemoryBudget>().unwrap_err().contains("256MiB"), "{text}");
        }
    }
}
