//! The mapping of a tokenizer's codes to the ids of a language model, by an offset or a map.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::TokensError;

/// The largest id that a file holds.
pub const MAX_ID: u64 = (1 << 31) - 1;

/// Maps codes to ids and back.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    codes: u32,
    placement: Placement,
}

#[derive(Debug, Clone, PartialEq)]
enum Placement {
    /// Code i has id offset + i.
    Offset(u32),
    /// Code i has id `ids[i]`.
    Map { ids: Vec<u32>, code_of: HashMap<u32, u32> },
}

/// A [`Vocabulary`] as a sidecar states it. Equality ignores the names of map files.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StatedVocabulary {
    /// Code i has id offset + i.
    Offset {
        /// The id of code 0.
        offset: u32,
    },
    /// Code i has the i-th id of a JSON array.
    Map {
        /// The name of the array's file beside the sidecar.
        map: String,
        /// The hash of the file.
        map_blake3: String,
    },
}

impl PartialEq for StatedVocabulary {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Offset { offset }, Self::Offset { offset: other }) => offset == other,
            (Self::Map { map_blake3, .. }, Self::Map { map_blake3: other, .. }) => map_blake3 == other,
            _ => false,
        }
    }
}

impl Vocabulary {
    /// A vocabulary in which code i has id `offset` + i.
    ///
    /// # Errors
    /// If the last id is 2^31 or more.
    pub fn offset(offset: u32, codes: u32) -> Result<Self, TokensError> {
        let last = (u64::from(offset) + u64::from(codes)).saturating_sub(1);
        if last > MAX_ID {
            return Err(TokensError::Unsuitable(format!(
                "{codes} codes from --vocab-offset {offset} on end at id {last}, which is not below 2^31; choose a smaller offset"
            )));
        }
        Ok(Self { codes, placement: Placement::Offset(offset) })
    }

    /// A vocabulary in which code i has the i-th id of the JSON array `json`, from the file that
    /// `origin` names.
    ///
    /// # Errors
    /// If it is not an array of exactly `codes` distinct ids below 2^31. The error names the ids or
    /// their number.
    pub fn map(json: &[u8], codes: u32, origin: &str) -> Result<Self, TokensError> {
        let fail = |words: String| Err(TokensError::Unsuitable(format!("vocabulary map {origin} {words}")));
        let ids: Vec<u64> = match serde_json::from_slice(json) {
            Ok(ids) => ids,
            Err(error) => {
                return fail(format!("is not a JSON array of ids, one for each code ({error})"));
            }
        };
        if ids.len() != codes as usize {
            return fail(format!(
                "has {} ids, and there are {codes} codes; give one id for each code",
                ids.len()
            ));
        }
        let mut code_of = HashMap::with_capacity(ids.len());
        for (code, &id) in (0..).zip(&ids) {
            let Some(id) = u32::try_from(id).ok().filter(|&id| u64::from(id) <= MAX_ID) else {
                return fail(format!("gives code {code} the id {id}, which is not below 2^31"));
            };
            if let Some(earlier) = code_of.insert(id, code) {
                return fail(format!(
                    "gives the id {id} to the codes {earlier} and {code}; ids must be distinct"
                ));
            }
        }
        let ids = ids.into_iter().map(|id| id as u32).collect();
        Ok(Self { codes, placement: Placement::Map { ids, code_of } })
    }

    /// The number of codes.
    #[must_use]
    pub fn codes(&self) -> u32 {
        self.codes
    }

    /// The id of code 0, unless there is a map.
    #[must_use]
    pub fn first_id(&self) -> Option<u32> {
        match self.placement {
            Placement::Offset(offset) => Some(offset),
            Placement::Map { .. } => None,
        }
    }

    /// The smallest id of a code.
    #[must_use]
    pub fn smallest(&self) -> u32 {
        match &self.placement {
            Placement::Offset(offset) => *offset,
            Placement::Map { ids, .. } => ids.iter().copied().min().unwrap_or(0),
        }
    }

    /// The largest id of a code.
    #[must_use]
    pub fn largest(&self) -> u32 {
        match &self.placement {
            Placement::Offset(offset) => offset + (self.codes - 1),
            Placement::Map { ids, .. } => ids.iter().copied().max().unwrap_or(0),
        }
    }

    /// The id of a code; `None` outside the codebook.
    #[must_use]
    pub fn id(&self, code: u32) -> Option<u32> {
        match &self.placement {
            Placement::Offset(offset) => (code < self.codes).then(|| offset + code),
            Placement::Map { ids, .. } => ids.get(code as usize).copied(),
        }
    }

    /// The code of an id; `None` if the id is not that of a code.
    #[must_use]
    pub fn code(&self, id: u32) -> Option<u32> {
        match &self.placement {
            Placement::Offset(offset) => id.checked_sub(*offset).filter(|&code| code < self.codes),
            Placement::Map { code_of, .. } => code_of.get(&id).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_id_and_comes_back() {
        let moved = Vocabulary::offset(50305, 7).unwrap();
        let mapped = Vocabulary::map(b"[9, 4, 8196, 0, 77, 5, 6]", 7, "map.json").unwrap();
        assert_eq!((moved.id(0), moved.largest(), mapped.largest()), (Some(50305), 50311, 8196));
        assert_eq!((moved.smallest(), mapped.smallest()), (50305, 0));
        for vocabulary in [moved, mapped] {
            for code in 0..7 {
                assert_eq!(vocabulary.code(vocabulary.id(code).unwrap()), Some(code));
            }
            assert_eq!(vocabulary.id(7), None);
            assert_eq!(vocabulary.code(50304), None);
            assert_eq!(vocabulary.code(50312), None);
        }
    }

    #[test]
    fn maps_and_offsets_that_cannot_be_are_refused() {
        for (json, part) in [
            ("[1, 2]", "has 2 ids, and there are 3 codes"),
            ("[1, 2, 3, 4]", "has 4 ids"),
            ("[1, 2, 1]", "the id 1 to the codes 0 and 2"),
            ("[1, 2, 2147483648]", "code 2 the id 2147483648"),
            ("[1, -2, 3]", "not a JSON array of ids"),
            ("{\"a\": 1}", "not a JSON array of ids"),
        ] {
            let message = Vocabulary::map(json.as_bytes(), 3, "m.json").unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("m.json"), "{message}");
        }
        assert!(Vocabulary::offset(u32::MAX - 5, 3).unwrap_err().to_string().contains("2^31"));
        assert!(Vocabulary::offset((1 << 31) - 3, 3).is_ok());
    }
}
