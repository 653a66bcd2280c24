//! A setting that may differ from stage to stage.

use serde::{Deserialize, Serialize};

/// A number for every stage. A config file has it as it is: a number, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a list with a number for each stage")]
pub enum PerStage {
    /// The same in all stages.
    All(i64),
    /// One for each stage, from the finest resolution.
    Each(Vec<i64>),
}

impl PerStage {
    /// The number of a stage, counted from the finest resolution; `None` where the list is too
    /// short.
    pub(super) fn of(&self, stage: usize) -> Option<i64> {
        match self {
            Self::All(number) => Some(*number),
            Self::Each(numbers) => numbers.get(stage).copied(),
        }
    }

    /// All numbers in it.
    pub(super) fn numbers(&self) -> Vec<i64> {
        match self {
            Self::All(number) => vec![*number],
            Self::Each(numbers) => numbers.clone(),
        }
    }

    /// One number where the list has the same for all stages, so that both forms can be compared.
    pub(super) fn shortest(self) -> Self {
        match self {
            Self::Each(numbers) if numbers.windows(2).all(|pair| pair[0] == pair[1]) => {
                numbers.first().map_or(Self::Each(vec![]), |&number| Self::All(number))
            }
            other => other,
        }
    }
}
