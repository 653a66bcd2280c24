//! Checks that the bytes of a config are UTF-8 text.

use super::error::ConfigError;

/// The byte order marks of UTF-16.
const UTF16_MARKS: [[u8; 2]; 2] = [[0xFF, 0xFE], [0xFE, 0xFF]];

/// Decodes `bytes` as UTF-8; `origin` names them in errors.
///
/// # Errors
/// [`ConfigError::Encoding`], with the line and the likely encoding.
pub(super) fn text<'a>(bytes: &'a [u8], origin: &str) -> Result<&'a str, ConfigError> {
    let refused = |end: usize, found: String| {
        let line = bytes[..end].iter().filter(|&&byte| byte == b'\n').count() + 1;
        ConfigError::Encoding { origin: origin.to_owned(), line, found }
    };
    if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(refused(0, "UTF-16".to_owned()));
    }
    // UTF-16 without a byte order mark: each ASCII letter has a zero byte beside it, and UTF-8 text
    // has none.
    if let Some(zero) = bytes.iter().position(|&byte| byte == 0) {
        return Err(refused(zero, "UTF-16 or not text, since it has zero bytes".to_owned()));
    }
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let length = bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
        // In Latin-1 every byte is a character, with the same number as in Unicode.
        let line: String = bytes[start..at + length].iter().map(|&byte| char::from(byte)).collect();
        refused(at, format!("not UTF-8, perhaps Latin-1 (`{}`)", line.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        text(bytes, "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn other_encodings_are_named_with_the_line() {
        assert_eq!(text("a = \"é\"".as_bytes(), "x.toml").unwrap(), "a = \"é\"");
        assert_eq!(
            error(b"a = 1\n# caf\xE9\nb = 2\n"),
            "x.toml:2: this is not UTF-8, perhaps Latin-1 (`# café`), and TOML is UTF-8; save it as UTF-8"
        );
        let words = "seed = 1\n";
        let utf16: Vec<u8> = words.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let expected = "x.toml:1: this is UTF-16";
        assert!(error(&utf16).starts_with(expected), "{}", error(&utf16));
        assert!(error(&[&[0xFF, 0xFE], &utf16[..]].concat()).starts_with(expected));
        let big: Vec<u8> = words.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert!(error(&[&[0xFE, 0xFF], &big[..]].concat()).ends_with("save it as UTF-8"));
        assert!(error(&big).starts_with(expected));
    }

    #[test]
    fn a_mark_of_utf8_is_no_mistake() {
        let text = text(b"\xEF\xBB\xBFseed = 1", "x.toml").unwrap();
        assert_eq!(text.parse::<toml::Table>().unwrap()["seed"].as_integer(), Some(1));
    }
}
