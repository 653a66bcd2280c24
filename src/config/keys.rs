//! Access to nested TOML tables by dotted keys.

use toml::{Table, Value};

/// The names from the root to a value.
pub(super) type Key = Vec<String>;

/// The value at `key`; `None` for the root, which is a table and not a value.
pub(super) fn value_at<'a>(root: &'a Table, key: &[String]) -> Option<&'a Value> {
    let (last, parents) = key.split_last()?;
    table_at(root, parents)?.get(last)
}

/// The table at `key`, if it is a table.
pub(super) fn table_at<'a>(root: &'a Table, key: &[String]) -> Option<&'a Table> {
    key.iter().try_fold(root, |table, name| table.get(name)?.as_table())
}

/// Like [`table_at`], for changes.
pub(super) fn table_at_mut<'a>(root: &'a mut Table, key: &[String]) -> Option<&'a mut Table> {
    key.iter().try_fold(root, |table, name| table.get_mut(name)?.as_table_mut())
}

/// The key of `name` in the table whose key is `table`.
pub(super) fn child(table: &[String], name: &str) -> Key {
    table.iter().cloned().chain([name.to_owned()]).collect()
}
