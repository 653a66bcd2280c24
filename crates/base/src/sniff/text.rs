//! Kinds of text.

use super::Kind;

/// Elements with which HTML pages begin if they leave out the required ones.
const PAGE_ELEMENTS: &[&str] = &[
    "a", "b", "body", "br", "center", "div", "font", "form", "frameset", "h1", "h2", "h3", "head", "hr",
    "html", "iframe", "img", "link", "meta", "p", "pre", "script", "span", "style", "table", "title",
];

pub(super) fn kind(head: &[u8]) -> Option<Kind> {
    let text = decoded(head)?;
    let text = text.trim_start();
    if text.starts_with("version https://git-lfs.github.com/")
        || text.starts_with("version https://hawser.github.com/")
    {
        return Some(Kind::LfsPointer);
    }
    if text.starts_with('<') {
        return Some(markup(text));
    }
    Some(if is_json(text) { Kind::Json } else { Kind::Text })
}

/// The text in UTF-8 or (after a byte order mark) UTF-16; none if it is neither or has control
/// characters. A character at the end may be cut in two.
fn decoded(head: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        String::from_utf16_lossy(&bytes.as_chunks().0.iter().map(|pair| unit(*pair)).collect::<Vec<_>>())
    };
    let text = match head {
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => {
            let bytes = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
            match str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(error) if error.error_len().is_none() => {
                    String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()
                }
                // Markup can be recognised in any encoding that contains ASCII.
                Err(_) if bytes.trim_ascii_start().starts_with(b"<") => {
                    String::from_utf8_lossy(bytes).into_owned()
                }
                Err(_) => return None,
            }
        }
    };
    let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0C' | '\x1B');
    (!text.contains(odd)).then_some(text)
}

/// The kind of text that begins with `<`, by its first element after any declarations and comments.
fn markup(text: &str) -> Kind {
    let mut rest = text;
    let mut declared = false;
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<?") {
            declared = true;
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else if let Some(doctype) = strip_prefix_ignoring_case(rest, "<!doctype") {
            match element(doctype.trim_start()).to_lowercase().as_str() {
                "html" => return Kind::Html,
                "svg" => return Kind::Svg,
                // A doctype with declarations of its own.
                _ if doctype.find('[').is_some_and(|at| doctype.find('>').is_none_or(|end| at < end)) => "]>",
                _ => ">",
            }
        } else {
            break;
        };
        match rest.find(end) {
            Some(at) => rest = &rest[at + end.len()..],
            // It goes on beyond `head`.
            None => return Kind::Xml,
        }
    }
    let Some(rest) = rest.strip_prefix('<') else { return if declared { Kind::Xml } else { Kind::Text } };
    let name = element(rest).to_lowercase();
    match name.as_str() {
        "" => Kind::Text,
        "svg" => Kind::Svg,
        _ if name.ends_with(":svg") => Kind::Svg,
        _ if PAGE_ELEMENTS.contains(&name.as_str()) && (!declared || name == "html") => Kind::Html,
        _ => Kind::Xml,
    }
}

/// The name that `text` begins with.
fn element(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, ':' | '_' | '-' | '.')));
    &text[..end.unwrap_or(text.len())]
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn is_json(text: &str) -> bool {
    let Some(inside) = text.strip_prefix(['{', '[']) else { return false };
    let inside = inside.trim_start();
    let object = text.starts_with('{');
    inside.is_empty()
        || match inside.chars().next() {
            Some('"') => true,
            Some('}') => object,
            Some('{' | '[' | ']' | '-' | '0'..='9') => !object,
            _ => !object && ["true", "false", "null"].iter().any(|word| inside.starts_with(word)),
        }
}
