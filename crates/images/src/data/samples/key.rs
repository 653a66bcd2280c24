//! The rules for the keys of samples. Keys become file names and names inside archives, so none may
//! lead outside a folder.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::DataError;

/// The reason for skipping a sample whose name cannot be a key.
pub(super) const NOT_UTF8: &str = "its name is not UTF-8, so it cannot be a key; rename it";

/// `raw` without empty and `.` parts.
///
/// # Errors
/// The fault, in words that complete "since it …": `raw` is empty, or could lead outside a folder.
pub(super) fn normalised(raw: &str) -> Result<String, &'static str> {
    if raw.starts_with('/') {
        return Err("is absolute");
    }
    if raw.contains('\0') {
        return Err("has a NUL byte");
    }
    if raw.contains('\\') {
        return Err("has a backslash");
    }
    if raw.split('/').any(|part| part == "..") {
        return Err("has a part `..`");
    }
    let mut name = String::with_capacity(raw.len());
    for part in raw.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(part);
    }
    if name.is_empty() { Err("is empty") } else { Ok(name) }
}

/// `raw` as a key: normalised, with the dots of its base name replaced by `_`. Formats that append
/// an extension to keys (WebDataset) take the first dot for the start of the extension.
///
/// # Errors
/// The same as [`normalised`].
pub(super) fn key(raw: &str) -> Result<String, &'static str> {
    let name = normalised(raw)?;
    let (folders, base) = split(&name);
    Ok(format!("{folders}{}", base.replace('.', "_")))
}

/// The error for a `key` that [`key`] refuses for `reason`, found at a `place` in `path`.
pub(super) fn refusal(path: &Path, place: String, key: &str, reason: &str) -> DataError {
    let reason = format!("{key:?} cannot be a key, since it {reason}");
    DataError::UnsafeKey { path: path.to_owned(), place, reason }
}

/// `name` as text. Bytes that are not UTF-8 are written as `\xFF`, so that different names stay
/// different.
pub(in crate::data) fn readable(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(name) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    Cow::Owned(text)
}

/// `name` in composed form (Unicode's NFC). macOS writes é as two characters, Linux and Windows as
/// one, so the same name may occur in both forms.
#[must_use]
pub fn composed(name: &str) -> Cow<'_, str> {
    if name.is_ascii() || is_nfc_quick(name.chars()) == IsNormalized::Yes {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.nfc().collect())
    }
}

/// Splits `name` into its folders, with the last `/`, and its base name.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('/').map_or(0, |slash| slash + 1))
}

/// `name` up to the last dot of its base name. A base name whose only dot is at its start is kept
/// whole.
pub(super) fn without_extension(name: &str) -> &str {
    let (folders, base) = split(name);
    match base.rfind('.') {
        Some(dot) if dot > 0 => &name[..folders.len() + dot],
        _ => name,
    }
}

/// A hash of a key, which distinguishes any number of keys with 16 bytes each.
#[must_use]
pub fn digest(key: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_no_dot_in_the_base_name() {
        assert_eq!(key("a.b/c.d.e").unwrap(), "a.b/c_d_e");
        assert_eq!(key("./a//b/./c").unwrap(), "a/b/c");
        assert_eq!(key("...").unwrap(), "___");
        assert_eq!(key("é/ü 1").unwrap(), "é/ü 1");
    }

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for (raw, reason) in [
            ("", "is empty"),
            ("./.", "is empty"),
            ("/etc/passwd", "is absolute"),
            ("a/../b", "has a part `..`"),
            ("..", "has a part `..`"),
            ("a\\b", "has a backslash"),
            ("a\0b", "has a NUL byte"),
        ] {
            assert_eq!(key(raw), Err(reason), "{raw:?}");
        }
        assert_eq!(key("..a/b..").unwrap(), "..a/b__");
    }

    #[test]
    fn extensions_end_at_the_last_dot() {
        assert_eq!(without_extension("a.b/c.d.jpg"), "a.b/c.d");
        assert_eq!(without_extension("a.b/c"), "a.b/c");
        assert_eq!(without_extension("a/.jpg"), "a/.jpg");
    }
}
