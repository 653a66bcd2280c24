//! Recognises what a file is from its first bytes, never from its name, so that errors can say what
//! the file is and not only what was expected.

mod boxes;
mod ifd;
mod signatures;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use ifd::{Entry, directory};

/// The number of first bytes that is enough for [`sniff`].
pub const HEAD_BYTES: usize = 4096;

/// An enum whose variants carry the words by which they are shown and documented.
macro_rules! kinds {
    ($($kind:ident = $words:literal,)+) => {
        /// The kind of a file. Displayed as a noun with its article: `a HEIC picture`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $words] $kind,)+
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$kind => $words,)+
                })
            }
        }
    };
}

kinds! {
    Empty = "an empty file",
    Zeros = "a file of zero bytes (a download or copy that was never filled)",
    LfsPointer = "a git-lfs pointer (fetch the real file with `git lfs pull`)",
    AppleDouble = "an AppleDouble file (what macOS keeps beside a file as `._NAME`, not the file itself)",
    Unknown = "of an unknown kind",

    Jpeg = "a JPEG picture",
    Png = "a PNG picture",
    Gif = "a GIF picture",
    WebP = "a WebP picture",
    Bmp = "a BMP picture",
    Tiff = "a TIFF picture",
    Pnm = "a PNM picture",

    Heic = "a HEIC picture",
    Heif = "a HEIF picture",
    Avif = "an AVIF picture",
    JpegXl = "a JPEG XL picture",
    Jpeg2000 = "a JPEG 2000 picture",
    JpegLs = "a JPEG-LS picture",
    JpegXr = "a JPEG XR picture",
    Psd = "a Photoshop file (PSD)",
    Xcf = "a GIMP file (XCF)",
    CameraRaw = "a camera's raw file",
    Ico = "an icon (ICO)",
    Cursor = "a cursor (CUR)",
    Icns = "an Apple icon (ICNS)",
    Exr = "an OpenEXR picture",
    Hdr = "a Radiance HDR picture",
    Pfm = "a portable float map (PFM)",
    Dds = "a DDS texture",
    Qoi = "a QOI picture",
    Farbfeld = "a farbfeld picture",
    Mng = "an MNG animation",
    Djvu = "a DjVu document",
    Dicom = "a DICOM file",
    Fits = "a FITS file",
    Metafile = "a Windows metafile (WMF or EMF)",

    Pdf = "a PDF document",
    PostScript = "a PostScript document",
    Svg = "an SVG drawing",
    Html = "an HTML page",
    Xml = "an XML document",
    Json = "JSON text",
    Text = "plain text",
    Office = "an Office document or a package like it",
    Ole = "an old Office document or Thumbs.db",
    DsStore = "a .DS_Store file of macOS",

    Mp4 = "an MP4 video",
    QuickTime = "a QuickTime video",
    Matroska = "a WebM or Matroska video",
    Avi = "an AVI video",
    Video = "a video",
    Audio = "an audio file",

    Tar = "a tar archive",
    Zip = "a zip archive",
    Gzip = "gzip data",
    Zstd = "zstd data",
    Xz = "xz data",
    Bzip2 = "bzip2 data",
    Lz4 = "lz4 data",
    SevenZip = "a 7z archive",
    Rar = "a RAR archive",

    Parquet = "a Parquet file",
    Arrow = "an Arrow file",
    Safetensors = "a safetensors file",
    TorchZip = "a PyTorch file (zip with a pickle)",
    Pickle = "a Python pickle",
    Numpy = "a NumPy array",
    NumpyZip = "a NumPy archive (npz)",
    Hdf5 = "an HDF5 file",
    Gguf = "a GGUF file",
    Sqlite = "an SQLite database",
    Program = "a program",
}

/// The kind of the file that begins with `head`, which is the whole file or at least its first
/// [`HEAD_BYTES`]. If the first directory of a TIFF lies further back, it is examined only if
/// `head` includes it.
#[must_use]
pub fn sniff(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Empty;
    }
    let start = &head[..head.len().min(HEAD_BYTES)];
    ifd::kind(head)
        .or_else(|| boxes::kind(start))
        .or_else(|| signatures::kind(start))
        .or_else(|| text::kind(start))
        .unwrap_or(Kind::Unknown)
}

/// Applies [`sniff`] to a file.
///
/// # Errors
/// If the file cannot be read.
pub fn sniff_file(path: &Path) -> io::Result<Kind> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(sniff(&head))
}

#[cfg(test)]
mod tests;
