//! Groups of columns. A single table of all figures would fit neither a phone nor a sheet of paper.

use strum::VariantArray;

use super::columns::Column;

/// A group of figures that share a table. Each figure's [`Definition`](super::Definition) says to
/// which it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub enum Group {
    /// Differences between pixels.
    Fidelity,
    /// Differences that people see.
    Perceptual,
    /// How much of the codebook is used.
    CodebookUse,
    /// How evenly it is used.
    CodebookBalance,
    /// What tokens cost.
    Rate,
    /// How many tokens stay when the image changes.
    Stability,
    /// Images per second.
    Speed,
    /// The tuples of codes at a position.
    SeveralCodebooks,
    /// Counts and sizes.
    Evaluated,
}

impl Group {
    /// All groups, in the order of their tables.
    pub const ALL: &'static [Self] = <Self as VariantArray>::VARIANTS;

    /// The heading of its table.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Fidelity => "Fidelity",
            Self::Perceptual => "Perceptual quality",
            Self::CodebookUse => "Codebook use",
            Self::CodebookBalance => "Codebook balance",
            Self::Rate => "Rate",
            Self::Stability => "Stability",
            Self::Speed => "Speed",
            Self::SeveralCodebooks => "Several codebooks together",
            Self::Evaluated => "What was evaluated",
        }
    }

    /// The columns that belong to this group, in the order of the definitions.
    pub(super) fn of(self, columns: &[Column]) -> Vec<&Column> {
        columns.iter().filter(|column| column.definition.group == self).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::DEFINITIONS;
    use super::*;

    #[test]
    fn names_and_titles_are_told_apart_and_no_group_is_empty() {
        for (at, definition) in DEFINITIONS.iter().enumerate() {
            let first = DEFINITIONS.iter().position(|other| other.name == definition.name);
            assert_eq!(first, Some(at), "{} is defined twice", definition.name);
        }
        for (at, group) in Group::ALL.iter().enumerate() {
            assert!(DEFINITIONS.iter().any(|definition| definition.group == *group), "{group:?}");
            assert_eq!(Group::ALL.iter().position(|other| other.title() == group.title()), Some(at));
        }
    }
}
