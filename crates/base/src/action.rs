//! What a program asked of the system when the system refused.

use std::fmt;

use crate::Class;

/// Something done to a file or a folder. As text it is a verb that fits after "cannot".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reading a file.
    Read,
    /// Opening an existing file.
    Open,
    /// Listing a folder.
    List,
    /// Making a file.
    Create,
    /// Making a folder.
    MakeFolder,
    /// Writing to a file, or making what was written durable.
    Write,
    /// Giving a finished file its name.
    Rename,
    /// Removing a file or a folder.
    Remove,
    /// Compressing bytes.
    Compress,
}

impl Action {
    /// The class of the error that this was refused: whether something could not be saved.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Create | Self::MakeFolder | Self::Write | Self::Rename => Class::SaveFailed,
            Self::Read | Self::Open | Self::List | Self::Remove | Self::Compress => Class::Failed,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Open => "open",
            Self::List => "list",
            Self::Create => "create",
            Self::MakeFolder => "make the folder",
            Self::Write => "write",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Compress => "compress",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_files_unsaved_is_a_failed_save() {
        for action in [Action::Create, Action::MakeFolder, Action::Write, Action::Rename] {
            assert_eq!(action.class(), Class::SaveFailed, "{action}");
        }
        for action in [Action::Read, Action::Open, Action::List, Action::Remove, Action::Compress] {
            assert_eq!(action.class(), Class::Failed, "{action}");
        }
        assert_eq!(format!("cannot {} x", Action::MakeFolder), "cannot make the folder x");
    }
}
