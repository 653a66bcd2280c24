use super::*;

/// The first header of an old tar, without a signature.
fn old_tar() -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..7].copy_from_slice(b"cat.jpg");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn padded(start: &[u8]) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.resize(600, 0xA7);
    bytes
}

/// A little-endian TIFF of one directory with these entries (tag, type, value).
fn tiff(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes =
        [b"II*\0".as_slice(), &8u32.to_le_bytes(), &(entries.len() as u16).to_le_bytes()].concat();
    for &(tag, kind, value) in entries {
        bytes.extend(
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat(),
        );
    }
    [bytes, vec![0; 4]].concat()
}

fn zip(name: &[u8]) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.resize(26, 0);
    [&bytes[..], &(name.len() as u16).to_le_bytes(), &[0, 0], name].concat()
}

#[test]
fn binary_kinds_are_told_apart() {
    let ustar = [&[b'x'; 257][..], b"ustar\0"].concat();
    let cases: Vec<(Vec<u8>, Kind)> = vec![
        (vec![], Kind::Empty),
        (vec![0; 5000], Kind::Zeros),
        (padded(b"\xFF\xD8\xFF\xE0\0\x10JFIF"), Kind::Jpeg),
        (padded(b"\xFF\xD8\xFF\xE8\0\x04ab\xFF\xF7"), Kind::JpegLs),
        (padded(b"\xFF\xD8\xFF\xC0\0\x04ab\xFF\xF7"), Kind::Jpeg),
        (padded(b"RIFF\x10\0\0\0WEBPVP8 "), Kind::WebP),
        (padded(b"RIFF\x10\0\0\0AVI LIST"), Kind::Avi),
        (padded(b"BM\x80\0\0\0\0\0\0\0\x36\0\0\0\x7C\0\0\0"), Kind::Bmp),
        (padded(b"P6\n5 7\n"), Kind::Pnm),
        (padded(b"P7\nWIDTH"), Kind::Pnm),
        (padded(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Kind::Heic),
        (padded(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), Kind::Heic),
        (padded(b"\0\0\0\x14ftypmif1\0\0\0\0miafheic"), Kind::Heif),
        (padded(b"\0\0\0\x1Cftypmif1\0\0\0\0mif1avifmiaf"), Kind::Avif),
        (padded(b"\0\0\0\x1Cftypavif\0\0\0\0avifmif1miaf"), Kind::Avif),
        (padded(b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2"), Kind::Mp4),
        (padded(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"), Kind::Mp4),
        (padded(b"\0\0\0\x14ftypqt  \0\0\0\0qt  "), Kind::QuickTime),
        (padded(b"\0\0\x10\0mdat"), Kind::QuickTime),
        (padded(b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom"), Kind::CameraRaw),
        (padded(b"\0\0\0\x0CJXL \r\n\x87\n"), Kind::JpegXl),
        (padded(b"\xFF\x0A\xFA"), Kind::JpegXl),
        (padded(b"\0\0\0\x0CjP  \r\n\x87\n"), Kind::Jpeg2000),
        (padded(b"\xFF\x4F\xFF\x51\0\x2F"), Kind::Jpeg2000),
        (padded(b"8BPS\0\x01"), Kind::Psd),
        (padded(b"\0\0\x01\0\x02\0\x10\x10\0\0\x01\0"), Kind::Ico),
        (padded(b"\x1A\x45\xDF\xA3"), Kind::Matroska),
        (padded(b"\0\x05\x16\x07\0\x02\0\0Mac OS X"), Kind::AppleDouble),
        (padded(b"%PDF-1.7\n"), Kind::Pdf),
        (padded(b"\n\n%PDF-1.7\n"), Kind::Pdf),
        (padded(b"\x1F\x8B\x08"), Kind::Gzip),
        (padded(b"BZh91AY&SY"), Kind::Bzip2),
        (ustar, Kind::Tar),
        (old_tar(), Kind::Tar),
        (zip(b"archive/data.pkl"), Kind::TorchZip),
        (zip(b"arr_0.npy"), Kind::NumpyZip),
        (zip(b"cat.jpg"), Kind::Zip),
        (zip(b"[Content_Types].xml"), Kind::Office),
        (padded(b"\x80\x02\x8A\x0A\x6C\xFC"), Kind::Pickle),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\"".to_vec(), Kind::Safetensors),
        (padded(b"PAR1\x15\x04"), Kind::Parquet),
        (tiff(&[(256, 3, 5), (262, 3, 2)]), Kind::Tiff),
        (tiff(&[(262, 3, 32803)]), Kind::CameraRaw),
        (tiff(&[(271, 2, 0), (50706, 1, 0x0401)]), Kind::CameraRaw),
        (tiff(&[(254, 4, 1), (271, 2, 0), (330, 4, 99)]), Kind::CameraRaw),
        (tiff(&[(254, 4, 1), (271, 2, 0)]), Kind::Tiff),
        (padded(b"II*\0\x10\0\0\0CR\x02\0"), Kind::CameraRaw),
        (padded(b"\x17\x18\x19"), Kind::Unknown),
    ];
    for (bytes, kind) in cases {
        assert_eq!(sniff(&bytes), kind, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
    }
}

#[test]
fn texts_are_told_apart() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:e349\nsize 30\n";
    let cases = [
        (pointer, Kind::LfsPointer),
        ("<!DOCTYPE html><html>", Kind::Html),
        ("\u{FEFF}\r\n <!doctype HTML PUBLIC \"-//W3C//DTD\">", Kind::Html),
        ("<HTML><HEAD>", Kind::Html),
        ("<!-- served by x --><head>", Kind::Html),
        ("<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC \"x\"><html>", Kind::Html),
        ("<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Kind::Svg),
        ("\u{FEFF}<?xml version=\"1.0\"?>\n<!-- a > b -->\n<!DOCTYPE svg PUBLIC \"x\">", Kind::Svg),
        ("<?xml version=\"1.0\"?>\n<!-- Adobe --><!DOCTYPE x [<!ENTITY a \"b\">]><svg:svg>", Kind::Svg),
        ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Kind::Xml),
        ("{\"error\": \"not found\"}", Kind::Json),
        (" [1, 2]", Kind::Json),
        ("[]", Kind::Json),
        ("{x}", Kind::Text),
        ("BMW drivers, P1 of 7", Kind::Text),
        ("a text file\n", Kind::Text),
        ("The free lunch", Kind::Text),
        ("DDS textures and ID3 tags", Kind::Text),
        ("< 5", Kind::Text),
    ];
    for (text, kind) in cases {
        assert_eq!(sniff(text.as_bytes()), kind, "{text:?}");
        let plain = text.trim_start_matches('\u{FEFF}');
        let wide: Vec<u8> =
            [0xFEFF].into_iter().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert_eq!(sniff(&wide), kind, "{text:?} in UTF-16");
    }
    // UTF-8 that is cut within a character, and text in an encoding of one byte.
    let long = "ä".repeat(HEAD_BYTES);
    assert_eq!(sniff(&[b"a", long.as_bytes()].concat()), Kind::Text);
    assert_eq!(sniff(b"<html><title>Caf\xE9"), Kind::Html);
}

#[test]
fn files_are_read_at_their_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.jpg");
    std::fs::write(&path, "<svg>").unwrap();
    assert_eq!(sniff_file(&path).unwrap(), Kind::Svg);
    assert!(sniff_file(&folder.path().join("gone")).is_err());
    assert_eq!(Kind::Svg.to_string(), "an SVG drawing");
}
