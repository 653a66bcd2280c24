//! Odd but valid images come out right against stored expectations; broken ones are refused. The files under
//! `tests/zoo` and their expectations are made by `tests/zoo.py`, which says how.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use pixtok_images::picture::{DecodeOptions, Decoded, Picture, PictureError, decode};

const BACKGROUND: [u8; 3] = [10, 200, 60];

/// The images whose expectation is another decoder's work, and by how many levels the two may differ: the
/// JPEG and VP8 standards leave the rounding of the inverse transform, of chroma upsampling and of colour
/// conversion open (1 to 2 levels each here, against libjpeg-turbo and libwebp). Every other image must be
/// exact.
const LOSSY: &[(&str, u8)] = &[
    ("one-pixel-jpeg", 1),
    ("tall-jpeg", 2),
    ("wide-jpeg", 2),
    ("exif1", 2),
    ("exif2", 2),
    ("exif3", 2),
    ("exif4", 2),
    ("exif5", 2),
    ("exif6", 2),
    ("exif7", 2),
    ("exif8", 2),
    ("jpeg-444", 2),
    ("jpeg-422", 4),
    ("jpeg-420", 4),
    ("jpeg-restarts", 4),
    ("jpeg-progressive", 4),
    ("jpeg-rgb", 2),
    ("jpeg-grey", 1),
    ("jpeg-named", 1),
    ("jpeg-trailing", 1),
    ("jpeg-cmyk", 2),
    ("jpeg-ycck", 2),
    ("lossy", 4),
    ("flags-lossy", 4),
    ("exif-two-blocks", 2),
    ("exif-long", 2),
    ("exif-nine", 2),
    ("exif-scans", 4),
    ("scans-444", 4),
    ("scans-420", 4),
    ("scans-440", 4),
    ("scans-cr-y-cb", 4),
    ("scans-cbcr-y", 4),
    ("scans-restarts", 4),
    ("scans-tables-between", 4),
    ("sampling-411", 4),
    ("sampling-440", 4),
    ("sampling-441-scans", 4),
    ("sampling-luma-smaller", 4),
    ("sampling-luma-smaller-progressive", 4),
    ("sampling-422-odd", 4),
    ("sampling-cb-cr-differ", 4),
    ("progressive-440", 4),
    ("progressive-apart", 4),
    ("grey-2x2", 1),
    ("grey-2x2-progressive", 1),
    ("adobe-rgb-by-number", 2),
    ("adobe-under-jfif", 2),
    ("adobe-after-frame", 2),
    ("grey-adobe-after-frame", 1),
    ("adobe-is-xmp", 2),
    ("text-between", 2),
    ("fill-bytes", 2),
    ("no-huffman-tables", 2),
    ("dnl-agrees", 2),
    ("dnl-alone", 2),
    ("tiff-jpeg", 4),
    ("tiff-jpeg-ycbcr", 4),
];

/// What the refusal of each file under `bad/` must say.
const REFUSED: &[(&str, &str)] = &[
    ("bomb.bmp", "60000x60000 pixels are more than the limit"),
    ("bomb.gif", "60000x60000 pixels are more than the limit"),
    ("bomb.jpg", "60000x60000 pixels are more than the limit"),
    ("bomb.png", "60000x60000 pixels are more than the limit"),
    ("bomb.ppm", "60000x60000 pixels are more than the limit"),
    ("bomb.tif", "60000x60000 pixels are more than the limit"),
    ("bomb.webp", "60000x60000 pixels are more than the limit"),
    ("empty.png", "the file is empty"),
    ("text.jpg", "plain text"),
    ("random.webp", "of an unknown kind"),
    ("heic.jpg", "a HEIC picture"),
    ("avif.png", "an AVIF picture"),
    ("jxl.jpg", "a JPEG XL picture"),
    ("jp2.jpg", "a JPEG 2000 picture"),
    ("jpeg-ls.jpg", "a JPEG-LS picture"),
    ("psd.tif", "a Photoshop file"),
    ("raw.tif", "a camera's raw file"),
    ("page.jpg", "an HTML page"),
    ("drawing.png", "an SVG drawing"),
    ("error.jpg", "JSON text"),
    ("document.jpg", "a PDF document"),
    ("video.gif", "an MP4 video"),
    ("archive.png", "a zip archive"),
    ("metadata.jpg", "an AppleDouble file"),
    ("pointer.jpg", "git lfs pull"),
    ("cgbi.png", "CgBI"),
    ("frame-outside.gif", "outside the picture of 11x9"),
    ("no-height.jpg", "does not state its height"),
    ("dnl-differs.jpg", "27 lines, its DNL segment 9"),
    ("lossless.jpg", "a lossless JPEG"),
    ("twelve-bits.jpg", "12 bits a sample"),
    ("arithmetic.jpg", "arithmetic coding"),
    ("sampling-of-three-sizes.jpg", "several scans"),
    ("float-beyond.tif", "not from 0 to 1"),
    ("float-negative.tif", "samples from -"),
    ("float-nan.tif", "not finite numbers"),
    ("uint32.tif", "32-bit unsigned whole numbers"),
    ("int16.tif", "16-bit signed whole numbers"),
    ("palette.tif", "a palette"),
    ("fill-order.tif", "in reverse order (FillOrder 2)"),
    ("lab.tif", "colours of kind 8"),
    ("ycbcr.tif", "YCbCr"),
];

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}

/// The files right inside `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn options() -> DecodeOptions {
    DecodeOptions { background: BACKGROUND, ..DecodeOptions::default() }
}

fn read(path: &Path) -> Result<Picture, PictureError> {
    decode(&fs::read(path).unwrap(), &options()).map(Decoded::release)
}

fn largest_difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width, a.height, a.rgb.len()), (b.width, b.height, b.rgb.len()));
    a.rgb.iter().zip(&b.rgb).map(|(x, y)| x.abs_diff(*y)).max().unwrap()
}

#[test]
fn odd_images_come_out_right() {
    let mut wrong = Vec::new();
    let files = files(&zoo());
    assert!(files.len() > 50, "{}", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let allowed = LOSSY.iter().find(|(lossy, _)| *lossy == stem).map_or(0, |pair| pair.1);
        let expected = read(&zoo().join(format!("expect/{stem}.png"))).unwrap();
        match read(&path) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(got) if (got.width, got.height) != (expected.width, expected.height) => {
                wrong.push(format!("{name}: {}x{}", got.width, got.height));
            }
            Ok(got) => {
                let difference = largest_difference(&got, &expected);
                if difference > allowed {
                    wrong.push(format!("{name}: off by {difference} levels"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_shows_the_background_and_what_loses_detail_is_told() {
    let (mut wrong, mut counts) = (vec![], [0, 0]);
    for path in files(&zoo()) {
        let (bytes, stem) = (fs::read(&path).unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let on = |background| decode(&bytes, &DecodeOptions { background, ..Default::default() }).unwrap();
        let (black, white) = (on([0; 3]), on([255; 3]));
        let traits = black.traits();
        let coded = bytes.starts_with(b"\xFF\xD8") || bytes.starts_with(b"GIF8");
        // A picture with fewer pixels than a palette has colours loses nothing in one.
        let lossy =
            coded || ["lossy", "flags-lossy", "tiff-jpeg", "tiff-jpeg-ycbcr", "palette"].contains(&stem);
        if (traits.transparent, traits.lossy) != (*black != *white, lossy) {
            wrong.push(format!("{}: {traits:?}", path.display()));
        }
        counts[0] += usize::from(traits.transparent);
        counts[1] += usize::from(traits.lossy);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(counts[0] > 8 && counts[1] > 50, "{counts:?}");
}

#[test]
fn what_is_no_picture_is_refused_by_its_kind() {
    let files = files(&zoo().join("bad"));
    assert_eq!(files.len(), REFUSED.len(), "each file under bad/ has its words here");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (_, part) = REFUSED.iter().find(|(refused, _)| *refused == name).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains(part), "{name}: {message}");
    }
}

#[test]
fn what_takes_too_much_memory_names_the_setting() {
    let photo = fs::read(zoo().join("rgb.bmp")).unwrap();
    let message = decode(&photo, &DecodeOptions { max_bytes: 200, ..options() }).unwrap_err().to_string();
    assert!(message.contains("data.decode_gib"), "{message}");
    let jpeg = fs::read(zoo().join("jpeg-420.jpg")).unwrap();
    assert!(decode(&jpeg, &DecodeOptions { max_bytes: 13_000, ..options() }).is_err());
    assert!(decode(&jpeg, &DecodeOptions { max_bytes: 14_000, ..options() }).is_ok());
}

#[test]
fn the_pixel_limit_is_exact() {
    let photo = fs::read(zoo().join("rgb.bmp")).unwrap();
    for (max_pixels, accepted) in [(34, false), (35, true)] {
        assert_eq!(decode(&photo, &DecodeOptions { max_pixels, ..options() }).is_ok(), accepted);
    }
}

/// A JPEG with an EXIF block in which a whole thumbnail, end marker included, lies.
fn with_thumbnail(jpeg: &[u8]) -> Vec<u8> {
    let thumbnail = fs::read(zoo().join("one-pixel-jpeg.jpg")).unwrap();
    let content = [b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0".as_slice(), &thumbnail].concat();
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &content, &jpeg[2..]].concat()
}

#[test]
fn truncated_jpegs_are_never_accepted() {
    let names = [
        "jpeg-420",
        "jpeg-444",
        "jpeg-progressive",
        "jpeg-restarts",
        "jpeg-grey",
        "jpeg-cmyk",
        "exif6",
        "scans-420",
        "scans-restarts",
        "sampling-luma-smaller",
        "sampling-luma-smaller-progressive",
        "dnl-alone",
    ];
    for name in names {
        let plain = fs::read(zoo().join(format!("{name}.jpg"))).unwrap();
        for jpeg in [with_thumbnail(&plain), plain] {
            assert!(decode(&jpeg, &options()).is_ok(), "{name}");
            for length in 0..jpeg.len() {
                assert!(decode(&jpeg[..length], &options()).is_err(), "{name}: {length} of {}", jpeg.len());
            }
        }
    }
}

#[test]
fn a_truncated_jpeg_filled_up_with_zeros_is_refused() {
    for name in ["jpeg-420", "jpeg-progressive", "scans-420", "sampling-411"] {
        let jpeg = fs::read(zoo().join(format!("{name}.jpg"))).unwrap();
        for length in (0..jpeg.len()).step_by(7) {
            let mut filled = jpeg[..length].to_vec();
            filled.resize(jpeg.len(), 0);
            assert!(decode(&filled, &options()).is_err(), "{name}: {length} of {}", jpeg.len());
        }
    }
}

/// jpeg-decoder reads a file whole or not at all, so a refusal must not recommend `lenient_jpeg`
/// where that would not help.
#[test]
fn lenient_does_not_reach_odd_layouts() {
    let lenient = DecodeOptions { lenient_jpeg: true, ..options() };
    for name in ["scans-420", "sampling-411"] {
        let jpeg = fs::read(zoo().join(format!("{name}.jpg"))).unwrap();
        let whole = decode(&jpeg, &lenient).unwrap().release();
        assert_eq!(whole, read(&zoo().join(format!("{name}.jpg"))).unwrap());
        for options in [&lenient, &options()] {
            let message = decode(&jpeg[..jpeg.len() - 9], options).unwrap_err().to_string();
            assert!(message.contains("cut short") && !message.contains("lenient"), "{name}: {message}");
        }
    }
}

/// Coded data that stop early are noticed even before an end marker.
#[test]
fn a_truncated_jpeg_with_an_end_marker_is_refused() {
    let names = [
        "jpeg-420",
        "jpeg-422",
        "jpeg-444",
        "jpeg-grey",
        "jpeg-restarts",
        "jpeg-cmyk",
        "scans-420",
        "scans-cr-y-cb",
        "scans-restarts",
        "sampling-411",
        "sampling-luma-smaller",
    ];
    for name in names {
        let jpeg = fs::read(zoo().join(format!("{name}.jpg"))).unwrap();
        // The last bytes before the marker may be no more than bits to fill up.
        for length in 2..jpeg.len() - 4 {
            let ended = [&jpeg[..length], &[0xFF, 0xD9]].concat();
            assert!(decode(&ended, &options()).is_err(), "{name}: {length} of {}", jpeg.len());
        }
    }
}

#[test]
fn every_sample_photograph_decodes() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos96")];
    let mut photographs = 0;
    while let Some(folder) = folders.pop() {
        folders.extend(
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()),
        );
        for path in files(&folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jpg"))
        {
            let picture = read(&path).unwrap();
            assert_eq!((picture.width, picture.height), (96, 96), "{}", path.display());
            photographs += 1;
        }
    }
    assert!(photographs > 1000, "{photographs}");
}

#[test]
fn lenient_accepts_truncated_jpegs_knowingly() {
    let lenient = DecodeOptions { lenient_jpeg: true, ..options() };
    for name in ["jpeg-420", "jpeg-progressive"] {
        let jpeg = fs::read(zoo().join(format!("{name}.jpg"))).unwrap();
        // From the start of the first scan on; its header has 14 bytes at most.
        let scan = jpeg.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap();
        for length in scan + 14..jpeg.len() {
            let picture = decode(&jpeg[..length], &lenient).unwrap();
            assert_eq!((picture.width, picture.height), (73, 53));
        }
    }
    assert!(decode(&fs::read(zoo().join("bad/text.jpg")).unwrap(), &lenient).is_err());
}

/// A file cut short is an error, or so late that every pixel is there: never half a picture. (But the text
/// forms of PNM cannot tell a last number that has lost a digit.)
#[test]
fn other_truncated_files_never_give_half_a_picture() {
    let names = [
        "rgba.png",
        "interlaced.png",
        "apng.png",
        "animated.gif",
        "lossless.webp",
        "lossy.webp",
        "animated-webp.webp",
        "rgb.bmp",
        "palette-bmp.dib",
        "rgb-lzw.tiff",
        "grey16-tiff.tif",
        "alpha-associated.tif",
        "float-stated.tif",
        "planar.tif",
        "tiff-jpeg.tif",
        "tiff-jpeg-ycbcr.tif",
        "no-iend.png",
        "flags-lossy.webp",
        "no-screen.gif",
        "alpha-124.bmp",
        "binary.ppm",
        "rgba-pam.pam",
    ];
    let mut wrong = Vec::new();
    for name in names {
        let bytes = fs::read(zoo().join(name)).unwrap();
        let whole = decode(&bytes, &options()).unwrap().release();
        for length in 0..bytes.len() {
            if decode(&bytes[..length], &options()).is_ok_and(|picture| *picture != whole) {
                wrong.push(format!("{name}: {length} of {}", bytes.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A reason must be in words and not show a library's types.
fn assert_plain(reason: &str, path: &Path) {
    let odd = ["{", "}", "::", "Some(", "None", "`", "["];
    assert!(!odd.iter().any(|part| reason.contains(part)), "{}: {reason}", path.display());
}

/// Flipped bits may go unnoticed, but nothing crashes and no size changes unnoticed to more than the limit.
#[test]
fn flipped_bits_do_no_harm() {
    let options = DecodeOptions { max_pixels: 1 << 20, ..options() };
    for path in files(&zoo()).into_iter().filter(|path| fs::metadata(path).unwrap().len() < 4000) {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(64)) {
            let mut broken = bytes.clone();
            broken[at] ^= 1 << (at % 8);
            match decode(&broken, &options) {
                Ok(picture) => {
                    assert!(picture.width * picture.height <= 1 << 20);
                    assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
                }
                Err(error) => assert_plain(&error.to_string(), &path),
            }
        }
    }
}
