"""Tells what a file is from its first bytes, never from its name, in the words of crates/base/src/sniff.rs.

Knows only kinds of files that are likely where weights are expected; all others are "of an unknown kind".
"""

from pathlib import Path

# The number of first bytes that is enough.
HEAD_BYTES = 4096

SAFETENSORS = "a safetensors file"
TORCH_ZIP = "a PyTorch file (zip with a pickle)"
PICKLE = "a Python pickle"
ZIP = "a zip archive"
POINTER = "a git-lfs pointer (fetch the real file with `git lfs pull`)"

AT_START = {
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"GIF87a": "a GIF picture",
    b"GIF89a": "a GIF picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"8BPS": "a Photoshop file (PSD)",
    b"\0\x05\x16\x07": "an AppleDouble file (what macOS keeps beside a file as `._NAME`, not the file itself)",
    b"%PDF-": "a PDF document",
    b"\x1a\x45\xdf\xa3": "a WebM or Matroska video",
    b"\x1f\x8b": "gzip data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"\xfd7zXZ\0": "xz data",
    b"BZh": "bzip2 data",
    b"\x04\x22\x4d\x18": "lz4 data",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"SQLite format 3\0": "an SQLite database",
    b"\x7fELF": "a program",
}
# Kinds of RIFF files, by the word at byte 8.
RIFF = {b"WEBP": "a WebP picture", b"AVI ": "an AVI video", b"WAVE": "an audio file"}
BRANDS = {b"avif": "an AVIF picture", b"heic": "a HEIC picture", b"heix": "a HEIC picture", b"qt  ": "a QuickTime video"}
LFS = ("version https://git-lfs.github.com/", "version https://hawser.github.com/")


def sniff(head: bytes) -> str:
    """The kind as a noun with its article. `head` is the whole file, or at least its first `HEAD_BYTES`."""
    if not head:
        return "an empty file"
    for signature, kind in AT_START.items():
        if head.startswith(signature):
            return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return zip_kind(head)
    if head.startswith(b"RIFF") and head[8:12] in RIFF:
        return RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "an MP4 video")
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return PICKLE
    if 2 <= int.from_bytes(head[:8], "little") <= 100 << 20 and head[8:10] in (b'{"', b"{}"):
        return SAFETENSORS
    if not any(head):
        return "a file of zero bytes (a download or copy that was never filled)"
    return text_kind(head) or "of an unknown kind"


def zip_kind(head: bytes) -> str:
    """What a zip archive holds, by the name of its first file."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith((b"/data.pkl", b"/version")):
        return TORCH_ZIP
    if name.endswith(b".npy"):
        return "a NumPy archive (npz)"
    return "an Office document or a package like it" if name in (b"[Content_Types].xml", b"mimetype") else ZIP


def text_kind(head: bytes) -> str | None:
    """The kind of text; none if it is not text."""
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    # Only the last character may be cut in two.
    whole, cut = (head[: len(head) & ~1], 0) if wide else (head, 3)
    for end in range(len(whole), len(whole) - cut - 1, -1):
        try:
            text = whole[:end].decode("utf-16" if wide else "utf-8-sig")
            break
        except UnicodeDecodeError:
            continue
    else:
        return None
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return None
    text = text.lstrip()
    if text.startswith(LFS):
        return POINTER
    if text.startswith("<"):
        early = text[:1024].lower()
        if any(mark in early for mark in ("<!doctype html", "<html", "<head", "<body", "<meta", "<title")):
            return "an HTML page"
        return "an SVG drawing" if "<svg" in early else "an XML document"
    inside = text[1:].lstrip()[:1]
    is_json = text[:1] == "{" and inside in ("", '"', "}") or text[:1] == "[" and inside in ("", *'"{[]-0123456789tfn')
    return "JSON text" if is_json else "plain text"


def sniff_file(path: Path) -> str:
    """Applies `sniff` to a file. Raises OSError if it cannot be read."""
    with open(path, "rb") as file:
        return sniff(file.read(HEAD_BYTES))
