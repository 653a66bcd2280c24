//! The content of a saved TorchScript module.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::DeflateDecoder;

/// Asserts that the module holds only libtorch's operations, including those of its layers.
pub fn assert_loads_anywhere(path: &Path) {
    let code = code(path);
    let layers = ["torch.group_norm(", "torch.scaled_dot_product_attention("];
    assert!(layers.iter().any(|layer| code.contains(layer)), "{code}");
    assert!(!code.contains("pixtok"), "{code}");
}

/// The code of a module: the members of the file, which is a zip, whose names end in `.py`.
fn code(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |all, &byte| (all << 8) | usize::from(byte))
    };
    let end = bytes.windows(4).rposition(|mark| mark == b"PK\x05\x06").unwrap();
    let (members, mut at) = (number(end + 10, 2), number(end + 16, 4));
    let mut code = String::new();
    for _ in 0..members {
        let (method, length, local) = (number(at + 10, 2), number(at + 20, 4), number(at + 42, 4));
        let [name, extra, comment] = [28, 30, 32].map(|field| number(at + field, 2));
        if bytes[at + 46..at + 46 + name].ends_with(b".py") {
            let begin = local + 30 + number(local + 26, 2) + number(local + 28, 2);
            let mut member = &bytes[begin..begin + length];
            match method {
                0 => member.read_to_string(&mut code).unwrap(),
                8 => DeflateDecoder::new(member).read_to_string(&mut code).unwrap(),
                other => panic!("{}: compressed by method {other}", path.display()),
            };
        }
        at += 46 + name + extra + comment;
    }
    code
}
