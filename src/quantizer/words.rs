//! Sentences that name settings. A quantizer does not know where its table stands in the config: it
//! may be `quantizer`, or `quantizer.each` inside another one. So a sentence keeps a setting as a
//! key, and each quantizer around it moves the key one table down ([`Words::inside`]).

use std::fmt;

/// A sentence, or a part of one, about settings of a quantizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A key of the quantizer's own table, which lies in `depth` tables `each`.
    Setting {
        key: &'static str,
        depth: usize,
    },
}

/// Words that begin with the name of a setting.
#[must_use]
pub fn setting(key: &'static str) -> Words {
    Words::default().setting(key)
}

impl Words {
    /// Adds text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Adds the name of a setting.
    #[must_use]
    pub fn setting(mut self, key: &'static str) -> Self {
        self.0.push(Part::Setting { key, depth: 0 });
        self
    }

    /// Adds other words.
    #[must_use]
    pub fn then(mut self, other: impl Into<Words>) -> Self {
        self.0.extend(other.into().0);
        self
    }

    /// The same words about a quantizer inside another one: its table is `each` in that one's.
    #[must_use]
    pub fn inside(mut self) -> Self {
        for part in &mut self.0 {
            if let Part::Setting { depth, .. } = part {
                *depth += 1;
            }
        }
        self
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Setting { key, depth } => write!(f, "quantizer.{}{key}", "each.".repeat(*depth)),
        })
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Self::default().text(text)
    }
}

impl From<&str> for Words {
    fn from(text: &str) -> Self {
        Self::default().text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_where_they_stand() {
        let words = setting("bits").text(" is 40; lower it, or train.steps in quantizer.each");
        assert_eq!(words.to_string(), "quantizer.bits is 40; lower it, or train.steps in quantizer.each");
        let outer = Words::from("fewer ").then(words.inside()).text(", or ").setting("stages");
        let named = "fewer quantizer.each.bits is 40; lower it, or train.steps in quantizer.each, or quantizer.stages";
        assert_eq!(outer.to_string(), named);
        let twice = setting("levels").inside().inside();
        assert_eq!(twice.to_string(), "quantizer.each.each.levels");
    }
}
