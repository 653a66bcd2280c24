//! The size of a picture from its header, without decoding its pixels.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use image::ImageFormat;
use image::metadata::Orientation;

use super::{FileKind, MAX_FILE_BYTES, PictureError, guarded, jpeg, length_of, other, png, sniff, tiff};

/// In these first bytes of a JPEG its header nearly always ends. If it doesn't, the whole file is
/// read.
const HEAD: u64 = 1 << 16;

/// A file, or a part of one, that can be read at any place.
pub struct Stored<'a> {
    /// The length in bytes.
    pub length: u64,
    /// Fills a buffer with the bytes from an offset on.
    pub read: &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>,
}

impl Stored<'_> {
    fn first(&self, bytes: u64) -> Result<Vec<u8>, PictureError> {
        let mut first = vec![0; self.length.min(bytes) as usize];
        (self.read)(0, &mut first)?;
        Ok(first)
    }

    fn whole(&self) -> Result<Vec<u8>, PictureError> {
        if self.length > MAX_FILE_BYTES {
            return Err(PictureError::FileTooLong { bytes: self.length, limit: MAX_FILE_BYTES });
        }
        self.first(self.length)
    }
}

/// Width and height of the picture in an image file once it is upright. Of a JPEG only the
/// beginning is read, of a PNG the pixels are passed over, other files are read whole. A file that
/// has a size may still be broken.
///
/// # Errors
/// If the file cannot be read, or its header states no size.
pub fn size(path: &Path) -> Result<(usize, usize), PictureError> {
    let length = length_of(path)?;
    let file = File::open(path)?;
    size_of(&Stored { length, read: &|at, bytes| file.read_exact_at(bytes, at) })
}

/// The same as [`size`], for the content of an image file.
///
/// # Errors
/// If the header states no size.
pub fn size_in(bytes: &[u8]) -> Result<(usize, usize), PictureError> {
    let read = |at: u64, to: &mut [u8]| -> io::Result<()> {
        let from = bytes.get(at as usize..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    size_of(&Stored { length: bytes.len() as u64, read: &read })
}

/// The same as [`size`], for anything that can be read at any place.
///
/// # Errors
/// The same as [`size`].
pub fn size_of(stored: &Stored) -> Result<(usize, usize), PictureError> {
    let head = stored.first(HEAD)?;
    if head.is_empty() {
        return Err(PictureError::Empty);
    }
    let kind = sniff(&head);
    let of = |format: ImageFormat| other::size(&stored.whole()?, format);
    guarded(kind, || match kind {
        FileKind::Jpeg => jpeg::size(&head).or_else(|_| jpeg::size(&stored.whole()?)),
        FileKind::Png => png::size_of(stored),
        FileKind::Tiff => tiff::size(&stored.whole()?),
        FileKind::Gif => of(ImageFormat::Gif),
        FileKind::WebP => of(ImageFormat::WebP),
        FileKind::Bmp => of(ImageFormat::Bmp),
        FileKind::Pnm => of(ImageFormat::Pnm),
        kind => Err(PictureError::NoImage(kind)),
    })
}

/// A stored width and height after the picture is turned.
pub(super) fn upright((width, height): (u32, u32), turned: Orientation) -> (usize, usize) {
    let (width, height) = (width as usize, height as usize);
    match turned {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => (width, height),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use image::{DynamicImage, RgbImage};

    use super::*;
    use crate::picture::{DecodeOptions, Picture, decode, read};

    /// An EXIF block with an orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation, 0, 0, 0], &[0; 4]].concat()
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(&[&kind[..], data].concat());
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
    }

    /// A JPEG with `comment` bytes of comments and an orientation before its picture.
    fn jpeg(picture: &Picture, comment: usize, orientation: u8) -> Vec<u8> {
        let plain = picture.to_jpeg(90).unwrap();
        let segment = |marker: u8, content: &[u8]| {
            [&[0xFF, marker][..], &(content.len() as u16 + 2).to_be_bytes(), content].concat()
        };
        let comments: Vec<u8> =
            vec![b'x'; comment].chunks(60_000).flat_map(|part| segment(0xFE, part)).collect();
        let app1 = segment(0xE1, &[&b"Exif\0\0"[..], &exif(orientation)].concat());
        [&plain[..2], &comments, &app1, &plain[2..]].concat()
    }

    fn encoded(picture: &Picture, format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb.clone());
        let mut bytes = vec![];
        DynamicImage::ImageRgb8(image.unwrap()).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    #[test]
    fn a_header_states_the_size_of_the_decoded_picture() {
        let picture = Picture { width: 23, height: 9, rgb: (0..23 * 9 * 3).map(|i| i as u8).collect() };
        let png = picture.to_png().unwrap();
        let end = png.len() - 12;
        let with_exif =
            |at: usize, turned: u8| [&png[..at], &chunk(b"eXIf", &exif(turned)), &png[at..]].concat();
        let mut files = vec![
            png.clone(),
            // Before and after the pixels.
            with_exif(33, 6),
            with_exif(end, 8),
            with_exif(end, 3),
            encoded(&picture, ImageFormat::Gif),
            encoded(&picture, ImageFormat::WebP),
            encoded(&picture, ImageFormat::Bmp),
            encoded(&picture, ImageFormat::Pnm),
        ];
        files.extend((1..=8).map(|turned| jpeg(&picture, 0, turned)));
        // The header ends beyond what is read first.
        files.push(jpeg(&picture, 200_000, 5));
        let folder = tempfile::tempdir().unwrap();
        let (path, mut turned) = (folder.path().join("file"), 0);
        for (number, bytes) in files.iter().enumerate() {
            fs::write(&path, bytes).unwrap();
            let decoded = read(&path, &DecodeOptions::default()).unwrap();
            let expected = (decoded.width, decoded.height);
            assert_eq!(size(&path).unwrap(), expected, "file {number}");
            assert_eq!(size_in(bytes).unwrap(), expected, "file {number}");
            turned += usize::from(expected == (9, 23));
        }
        assert_eq!(turned, 7);
    }

    #[test]
    fn little_of_a_file_is_read() {
        let mut rgb = vec![0; 3 * 400 * 300];
        blake3::Hasher::new().finalize_xof().fill(&mut rgb);
        let picture = Picture { width: 400, height: 300, rgb };
        for bytes in [picture.to_png().unwrap(), picture.to_jpeg(95).unwrap()] {
            assert!(bytes.len() > 100_000);
            let most = std::cell::Cell::new(0);
            let read = |at: u64, to: &mut [u8]| {
                most.set(most.get() + to.len());
                to.copy_from_slice(&bytes[at as usize..][..to.len()]);
                Ok(())
            };
            let size = size_of(&Stored { length: bytes.len() as u64, read: &read }).unwrap();
            assert_eq!(size, (400, 300));
            assert!(most.get() < 70_000, "{}", most.get());
        }
    }

    #[test]
    fn a_file_without_a_size_is_an_error() {
        let png = Picture { width: 5, height: 7, rgb: vec![9; 105] }.to_png().unwrap();
        for bytes in [&b""[..], b"text", &png[..20], b"\xFF\xD8\xFF\xE0\0\x04ab", b"GIF89a", b"II*\0"] {
            assert!(size_in(bytes).is_err(), "{bytes:?}");
            assert!(decode(bytes, &DecodeOptions::default()).is_err(), "{bytes:?}");
        }
        assert!(size(Path::new("/nowhere.png")).is_err());
        // A picture that is cut short has a size.
        assert_eq!(size_in(&png[..40]).unwrap(), (5, 7));
    }
}
