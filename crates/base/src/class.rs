//! What kind of failure an error is, for those who only need to know what to do about it.

use crate::Misuse;

/// The class of an error. A program exits with the code of its error's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// What was asked for makes no sense or cannot be had: the user has to ask for something else.
    Misuse,
    /// Another process works there: the same request may succeed later.
    InUse,
    /// What was made could not be written; what was there before is untouched.
    SaveFailed,
    /// Numbers that must be finite are not.
    NotFinite,
    /// Too many images cannot be used, or none can.
    BadData,
    /// Everything else.
    Failed,
}

impl Class {
    /// The exit code of a program that ends with an error of this class. 0 is for one that did what
    /// it should, 128 + n for one that signal n ended.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Misuse => 2,
            Self::InUse => 3,
            Self::SaveFailed => 4,
            Self::NotFinite => 5,
            Self::BadData => 6,
        }
    }
}

/// An error that knows its class.
pub trait Classified {
    /// The class of this error. An error that only passes on another one has the other's class,
    /// unless where it happened says more.
    fn class(&self) -> Class;
}

impl Classified for Misuse {
    fn class(&self) -> Class {
        Class::Misuse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_an_exit_code_of_its_own() {
        let classes =
            [Class::Failed, Class::Misuse, Class::InUse, Class::SaveFailed, Class::NotFinite, Class::BadData];
        assert_eq!(classes.map(Class::exit_code), [1, 2, 3, 4, 5, 6]);
        assert_eq!(Misuse("give another".into()).class(), Class::Misuse);
    }
}
