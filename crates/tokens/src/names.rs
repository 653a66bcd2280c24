//! Names of special tokens instead of ids.

use serde::{Deserialize, Serialize};

use super::TokensError;

/// How codes are written as names of special tokens, for texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenNames {
    /// The pattern, for instance `<|visual token {:06}|>`. The braces stand for the code, with at
    /// least as many digits as they state.
    pub pattern: String,
    /// The id of code 0.
    pub offset: u32,
    /// K, the number of codes that have names.
    pub codes: u32,
}

/// The parts of a pattern.
struct Parts<'a> {
    before: &'a str,
    digits: usize,
    after: &'a str,
}

impl TokenNames {
    /// Names by `pattern` for the ids from `offset` on.
    ///
    /// # Errors
    /// If names cannot be parsed back with this pattern, or ids would reach 2^31.
    pub fn new(pattern: impl Into<String>, offset: u32, codes: u32) -> Result<Self, TokensError> {
        let names = Self { pattern: pattern.into(), offset, codes };
        names.parts()?;
        if u64::from(offset) + u64::from(codes) > 1 << 31 {
            return Err(TokensError::Unsuitable(format!(
                "{codes} names from id {offset} on reach past 2^31; take a smaller offset"
            )));
        }
        Ok(names)
    }

    fn parts(&self) -> Result<Parts<'_>, TokensError> {
        let refuse = |what: &str| {
            TokensError::Unsuitable(format!(
                "the pattern {:?} of token names {what}; write one like \"<|visual token {{:06}}|>\"",
                self.pattern
            ))
        };
        let once = || refuse("needs {} or {:0N} exactly once, and no other braces");
        let (before, rest) = self.pattern.split_once('{').ok_or_else(once)?;
        let (inside, after) = rest.split_once('}').ok_or_else(once)?;
        if [before, inside, after].iter().any(|part| part.contains(['{', '}'])) {
            return Err(once());
        }
        let digits = match inside {
            "" => 0,
            _ => inside.strip_prefix(":0").and_then(|n| n.parse().ok()).ok_or_else(once)?,
        };
        if !(0..=20).contains(&digits) {
            return Err(refuse("asks for more than 20 digits"));
        }
        // A number is followed by the rest of the pattern, or by the next name.
        match after.chars().chain(before.chars()).next() {
            Some(next) if !next.is_ascii_digit() => Ok(Parts { before, digits, after }),
            _ => Err(refuse("does not show where a number ends")),
        }
    }

    fn unknown(&self, id: u64) -> TokensError {
        let last = u64::from(self.offset) + u64::from(self.codes);
        TokensError::Unsuitable(format!(
            "id {id} has no name: those of codes are {} to {}",
            self.offset,
            last.saturating_sub(1)
        ))
    }

    /// The concatenated names of `ids`.
    ///
    /// # Errors
    /// If an id is not that of a code.
    pub fn format(&self, ids: &[u32]) -> Result<String, TokensError> {
        let Parts { before, digits, after } = self.parts()?;
        let mut text = String::new();
        for &id in ids {
            let code = id.checked_sub(self.offset).filter(|&code| code < self.codes);
            let code = code.ok_or_else(|| self.unknown(id.into()))?;
            text.push_str(&format!("{before}{code:0digits$}{after}"));
        }
        Ok(text)
    }

    /// Inverse of [`TokenNames::format`].
    ///
    /// # Errors
    /// If `text` contains anything but names of codes.
    pub fn parse(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let Parts { before, digits, after } = self.parts()?;
        let mut ids = vec![];
        let mut rest = text;
        while !rest.is_empty() {
            let name = rest.strip_prefix(before).and_then(|number| {
                let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
                let (number, rest) = number.split_at(end);
                let canonical = number.len() == digits || (number.len() > digits && !number.starts_with('0'));
                let zero = digits == 0 && number == "0";
                Some((number.parse::<u64>().ok().filter(|_| canonical || zero)?, rest.strip_prefix(after)?))
            });
            let Some((code, after_it)) = name else {
                let start: String = rest.chars().take(40).collect();
                return Err(TokensError::Unsuitable(format!("{start:?} does not begin with a token's name")));
            };
            let id = code.saturating_add(self.offset.into());
            let known = u32::try_from(id).ok().filter(|_| code < self.codes.into());
            ids.push(known.ok_or_else(|| self.unknown(id))?);
            rest = after_it;
        }
        Ok(ids)
    }

    /// A JSON object that maps every name to its id, in the order of ids: the `added_tokens.json`
    /// of a Hugging Face tokenizer.
    ///
    /// # Errors
    /// If the names are not valid.
    pub(super) fn added_tokens(&self) -> Result<Vec<u8>, TokensError> {
        let mut text = String::from("{");
        for code in 0..self.codes {
            let id = u64::from(self.offset) + u64::from(code);
            let id = u32::try_from(id).map_err(|_| self.unknown(id))?;
            let name = serde_json::Value::from(self.format(&[id])?);
            text.push_str(if code == 0 { "\n  " } else { ",\n  " });
            text.push_str(&format!("{name}: {id}"));
        }
        text.push_str("\n}\n");
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_ids() {
        let names = TokenNames::new("<|visual token {:06}|>", 151_854, 32_768).unwrap();
        let text = names.format(&[151_854, 151_861, 184_621]).unwrap();
        assert_eq!(text, "<|visual token 000000|><|visual token 000007|><|visual token 032767|>");
        assert_eq!(names.parse(&text).unwrap(), [151_854, 151_861, 184_621]);
        assert_eq!(names.parse("").unwrap(), [0_u32; 0]);

        let bare = TokenNames::new("I{}", 0, 1_000).unwrap();
        assert_eq!(bare.format(&[0, 10, 999]).unwrap(), "I0I10I999");
        assert_eq!(bare.parse("I0I10I999").unwrap(), [0, 10, 999]);
        let short = TokenNames::new("{:02};", 5, 1_000).unwrap();
        assert_eq!(short.format(&[5, 128]).unwrap(), "00;123;");
        assert_eq!(short.parse("00;123;").unwrap(), [5, 128]);
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let names = TokenNames::new("<i{:03}>", 5, 100).unwrap();
        for ids in [[4], [105], [u32::MAX]] {
            assert!(names.format(&ids).unwrap_err().to_string().contains("has no name"), "{ids:?}");
        }
        for text in
            ["<i001", "<i01>", "<i0001>", "<i+01>", "<i001> ", "<i100>", "<i99999999999999999999999>", "x"]
        {
            assert!(names.parse(text).is_err(), "{text}");
        }
        assert!(TokenNames::new("I{}", 0, 10).unwrap().parse("I01").is_err());
    }

    #[test]
    fn patterns_that_cannot_be_read_back_are_refused() {
        for pattern in
            ["", "x", "{}", "{:06}", "{}{}", "{{}}", "a{", "a}", "a{:6}", "a{:x}", "1{}", "a{}1", "a{:099}b"]
        {
            assert!(TokenNames::new(pattern, 0, 10).is_err(), "{pattern}");
        }
        assert!(TokenNames::new("a{}", 1 << 31, 1).is_err());
    }

    #[test]
    fn a_tokenizer_can_take_the_names() {
        let names = TokenNames::new("\"{}", 7, 2).unwrap();
        let text = String::from_utf8(names.added_tokens().unwrap()).unwrap();
        assert_eq!(text, "{\n  \"\\\"0\": 7,\n  \"\\\"1\": 8\n}\n");
    }
}
