//! Randomness without state: every random decision is a pure function of a [`Seed`] and the name of
//! the decision, so that a run resumes from its counters alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// 64 bits that determine one stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of `stream` at the coordinates `at`, for instance `("order", &[epoch])`. It is
    /// independent of every other stream and coordinate.
    #[must_use]
    pub fn derive(self, stream: &str, at: &[u64]) -> Seed {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&(stream.len() as u64).to_le_bytes());
        hasher.update(stream.as_bytes());
        for coordinate in at {
            hasher.update(&coordinate.to_le_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Seed(u64::from_le_bytes(bytes))
    }

    /// A generator for decisions on the host, such as order, crops and flips.
    #[must_use]
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_coordinates_are_independent() {
        let seed = Seed(7);
        assert_eq!(seed.derive("order", &[1]), seed.derive("order", &[1]));
        assert_ne!(seed.derive("order", &[1]), seed.derive("order", &[2]));
        assert_ne!(seed.derive("order", &[1]), seed.derive("crop", &[1]));
        assert_ne!(seed.derive("order", &[1, 0]), seed.derive("order", &[1]));
        assert_ne!(Seed(8).derive("order", &[1]), seed.derive("order", &[1]));
    }
}
