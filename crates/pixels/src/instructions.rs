//! Which version of an inner loop runs.

/// An instruction set that inner loops are compiled for, here and in pixtok's C++. A value exists only for what this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions(Set);

/// The order is that of the versions in `csrc/vectors.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Default,
    Avx2,
    Avx512,
}

const ALL: [(Set, &str); 3] = [(Set::Default, "DEFAULT"), (Set::Avx2, "AVX2"), (Set::Avx512, "AVX512")];

impl Instructions {
    /// The set with the name that libtorch gives it (`DEFAULT`, `AVX2`, `AVX512`); under any other name, and where the processor
    /// lacks it, the default.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let found = ALL.into_iter().find(|(set, known)| *known == name && set.is_here());
        Self(found.map_or(Set::Default, |(set, _)| set))
    }

    /// All sets that this processor has.
    #[must_use]
    pub fn all() -> Vec<Self> {
        ALL.into_iter().filter(|(set, _)| set.is_here()).map(|(set, _)| Self(set)).collect()
    }

    /// The widest set that this processor has, for loops whose results do not depend on it.
    #[must_use]
    pub fn widest() -> Self {
        let here = ALL.into_iter().rev().find(|(set, _)| set.is_here());
        Self(here.map_or(Set::Default, |(set, _)| set))
    }

    /// As libtorch calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL[self.index()].1
    }

    /// The place of the version in a table of all.
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
    /// What libtorch asks of a processor for kernels of this name.
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
