//! Selects which version of an inner loop runs.

/// An instruction set for which inner loops are compiled, here and in pixtok's C++. A value exists
/// only if this processor supports the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions(Set);

/// The order matches that of the versions in `csrc/vectors.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Default,
    Avx2,
    Avx512,
}

const ALL: [(Set, &str); 3] = [(Set::Default, "DEFAULT"), (Set::Avx2, "AVX2"), (Set::Avx512, "AVX512")];

impl Instructions {
    /// The set with this name in libtorch (`DEFAULT`, `AVX2`, `AVX512`). For any other name, or if
    /// the processor lacks the set, the default.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let found = ALL.into_iter().find(|(set, known)| *known == name && set.is_here());
        Self(found.map_or(Set::Default, |(set, _)| set))
    }

    /// All sets that this processor supports.
    #[must_use]
    pub fn all() -> Vec<Self> {
        ALL.into_iter().filter(|(set, _)| set.is_here()).map(|(set, _)| Self(set)).collect()
    }

    /// The widest set that this processor supports, for loops whose results do not depend on it.
    #[must_use]
    pub fn widest() -> Self {
        let here = ALL.into_iter().rev().find(|(set, _)| set.is_here());
        Self(here.map_or(Set::Default, |(set, _)| set))
    }

    /// The name in libtorch.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL[self.index()].1
    }

    /// The index of the set in a table of all sets.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether AVX2 may be used.
    pub(crate) fn has_avx2(self) -> bool {
        self.0 != Set::Default
    }
}

impl Set {
    /// Whether the processor supports what libtorch requires for its kernels of this name.
    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Self::Default => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx2 && avx512,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_or_absent_is_the_default() {
        let default = Instructions::named("DEFAULT");
        assert_eq!(default.index(), 0);
        assert_eq!(Instructions::named("SVE256"), default);
        for instructions in Instructions::all() {
            assert_eq!(Instructions::named(instructions.name()), instructions);
        }
    }
}
