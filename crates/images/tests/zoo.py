"""Makes tests/zoo: odd images, and what each must decode to.

Made with Python 3.11, Pillow 13.0.0 and numpy 2.4.6; JPEGs with several scans or odd sampling are made with cjpeg of
libjpeg-turbo 2.1.5. Run from the repository root: python crates/images/tests/zoo.py

For an image NAME.EXT the expectation is expect/NAME.png, an 8-bit RGB PNG. Where the format is lossless the
expectation is computed here with numpy from the pixels that went into the file, so no decoder but the one under
test is involved; for JPEG and lossy WebP it is Pillow's (libjpeg-turbo's, libwebp's) decoding, turned and converted
here. Transparency lies over the background (10, 200, 60). Files under bad/ must be refused. Crops of pictures that
Pillow resized, for the tests of the data module, are under resize/.
"""

import io
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path("crates/images/tests/zoo")
BACKGROUND = np.array([10, 200, 60])
PHOTOS = sorted(path for path in Path("data/photos96/val").rglob("*") if path.is_file())
RNG = np.random.default_rng(20240607)


def write(name, data):
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def expect(name, rgb):
    rgb = np.asarray(rgb)
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3, (name, rgb.dtype, rgb.shape)
    path = ROOT / "expect" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb, "RGB").save(path, optimize=True)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def smooth(height, width, channels=3, top=255):
    """A picture with gradients, an edge and no symmetry, so that every flip and turn of it differs."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x / max(width - 1, 1), y / max(height - 1, 1), (x + 2 * y) / (width + 2 * height), 1 - x / width]
    image = np.stack(planes[:channels], axis=2)
    image[: height // 3, : width // 4] = 1 - image[: height // 3, : width // 4] * 0.5
    return np.rint(image * top).astype(np.uint8 if top == 255 else np.uint16)


def noisy(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def grey(plane):
    return np.repeat(np.asarray(plane)[..., None], 3, axis=2)


def over(rgb, alpha, top=255):
    """`rgb` over the background with one exact rounding to 8 bits, halves up."""
    rgb, alpha = rgb.astype(object), alpha.astype(object)[..., None]
    one = top * (top // 255)
    mixed = rgb * alpha + (BACKGROUND * (top // 255)).astype(object) * (top - alpha)
    return ((2 * mixed + one) // (2 * one)).astype(np.uint8)


def to8(wide):
    return ((wide.astype(np.int64) + 128) // 257).astype(np.uint8)


# --- PNG by hand: what Pillow cannot write ---


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, interlace=0, before=b"", after=b"", level=9):
    """A PNG of unfiltered `rows` (bytes, each already with its filter byte)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = chunk(b"IDAT", zlib.compress(rows, level))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + body + after + chunk(b"IEND", b"")


def plain_rows(array):
    """Rows of `array` (any integer kind) with filter 0, samples big-endian."""
    big = array.astype(array.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def adam7_rows(array):
    passes = (array[y::dy, x::dx] for y, x, dy, dx in ADAM7)
    return b"".join(plain_rows(part) for part in passes if part.size)


def exif(orientation):
    """An EXIF block (TIFF header, one entry), little-endian."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


# EXIF orientation -> how the stored pixels are made upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


def make_sizes():
    for name, array in [("one-pixel", noisy(1, 1)), ("tall", noisy(10000, 1)), ("wide", noisy(1, 10000))]:
        write(f"{name}.png", encoded(Image.fromarray(array), "PNG", optimize=True))
        expect(name, array)
    for name, array in [("one-pixel-jpeg", smooth(1, 1)), ("tall-jpeg", smooth(10000, 1)), ("wide-jpeg", smooth(1, 10000))]:
        data = encoded(Image.fromarray(array), "JPEG", quality=90)
        write(f"{name}.jpg", data)
        expect(name, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def make_png():
    wide = smooth(7, 5, 4, 65535) + RNG.integers(0, 40, (7, 5, 4)).astype(np.uint16) * (smooth(7, 5, 4, 65535) < 65000)
    write("grey16.png", png(5, 7, 16, 0, plain_rows(wide[..., 0])))
    expect("grey16", grey(to8(wide[..., 0])))
    write("rgb16.png", png(5, 7, 16, 2, plain_rows(wide[..., :3])))
    expect("rgb16", to8(wide[..., :3]))
    write("la16.png", png(5, 7, 16, 4, plain_rows(wide[..., :2])))
    expect("la16", over(np.repeat(wide[..., :1], 3, axis=2), wide[..., 1], 65535))
    write("rgba16.png", png(5, 7, 16, 6, plain_rows(wide)))
    expect("rgba16", over(wide[..., :3], wide[..., 3], 65535))

    rgba = noisy(7, 5, 4)
    write("rgba.png", png(5, 7, 8, 6, plain_rows(rgba)))
    expect("rgba", over(rgba[..., :3], rgba[..., 3]))
    write("la.png", png(5, 7, 8, 4, plain_rows(rgba[..., :2])))
    expect("la", over(np.repeat(rgba[..., :1], 3, axis=2), rgba[..., 1]))

    palette, alpha = noisy(1, 6)[0], np.array([0, 128, 255, 37], np.uint8)
    index = RNG.integers(0, 6, (7, 5)).astype(np.uint8)
    table = chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", alpha.tobytes())
    write("palette-alpha.png", png(5, 7, 8, 3, plain_rows(index), before=table))
    full = np.concatenate([alpha, [255, 255]]).astype(np.uint8)
    expect("palette-alpha", over(palette[index], full[index]))

    # More pixels than any palette has colours.
    index = np.add.outer(2 * np.arange(14), np.arange(20)) % 16
    steps = np.arange(16)
    palette = np.stack([16 * steps, 255 - 16 * steps, 53 * steps % 256], axis=1).astype(np.uint8)
    table = chunk(b"PLTE", palette.tobytes())
    write("palette.png", png(20, 14, 8, 3, plain_rows(index.astype(np.uint8)), before=table))
    expect("palette", palette[index])

    bits = RNG.integers(0, 2, (7, 13)).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    write("one-bit.png", png(13, 7, 1, 0, rows))
    expect("one-bit", grey(bits * 255))

    key = chunk(b"tRNS", struct.pack(">HHH", *rgba[2, 3, :3]))
    write("rgb-colour-key.png", png(5, 7, 8, 2, plain_rows(rgba[..., :3]), before=key))
    shown = rgba[..., :3].copy()
    shown[(rgba[..., :3] == rgba[2, 3, :3]).all(axis=2)] = BACKGROUND
    expect("rgb-colour-key", shown)

    photo = smooth(13, 11)
    write("interlaced.png", png(11, 13, 8, 2, adam7_rows(photo), interlace=1))
    expect("interlaced", photo)
    write("interlaced16-small.png", png(3, 2, 16, 6, adam7_rows(wide[:2, :3]), interlace=1))
    expect("interlaced16-small", over(wide[:2, :3, :3], wide[:2, :3, 3], 65535))

    stored = smooth(7, 5)
    write("exif6-before.png", png(5, 7, 8, 2, plain_rows(stored), before=chunk(b"eXIf", exif(6))))
    expect("exif6-before", UPRIGHT[6](stored))
    write("exif6-after.png", png(5, 7, 8, 2, plain_rows(stored), after=chunk(b"eXIf", exif(6))))
    expect("exif6-after", UPRIGHT[6](stored))

    write("png-named.jpg", png(5, 7, 8, 2, plain_rows(stored)))
    expect("png-named", stored)


def make_jpeg():
    stored = smooth(30, 21)
    for orientation in range(1, 9):
        data = encoded(Image.fromarray(stored), "JPEG", quality=92, subsampling=0, exif=b"Exif\0\0" + exif(orientation))
        write(f"exif{orientation}.jpg", data)
        decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        expect(f"exif{orientation}", UPRIGHT[orientation](decoded))

    photo = Image.open(PHOTOS[0]).convert("RGB").crop((10, 5, 83, 58))
    variants = {
        "jpeg-444": dict(subsampling=0),
        "jpeg-422": dict(subsampling=1),
        "jpeg-420": dict(subsampling=2),
        "jpeg-restarts": dict(subsampling=2, restart_marker_blocks=3),
        "jpeg-progressive": dict(subsampling=2, progressive=True),
        "jpeg-rgb": dict(keep_rgb=True),
    }
    for name, options in variants.items():
        data = encoded(photo, "JPEG", quality=90, **options)
        write(f"{name}.jpg", data)
        expect(name, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    data = encoded(photo.convert("L"), "JPEG", quality=90)
    write("jpeg-grey.jpg", data)
    expect("jpeg-grey", grey(np.asarray(Image.open(io.BytesIO(data)))))
    write("jpeg-named.png", data)
    expect("jpeg-named", grey(np.asarray(Image.open(io.BytesIO(data)))))
    write("jpeg-trailing.jpg", data + b"\0" * 7 + b"after the end")
    expect("jpeg-trailing", grey(np.asarray(Image.open(io.BytesIO(data)))))

    # Pillow writes CMYK inverted with an Adobe marker of transform 0. The same coded data under transform 2 are a
    # valid YCCK file (of other colours), which libjpeg converts to CMYK.
    cmyk = np.dstack([smooth(30, 21), smooth(30, 21)[::-1, :, 0] // 2])
    data = encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    for name, transform in [("jpeg-cmyk", 0), ("jpeg-ycck", 2)]:
        changed = data[:at] + bytes([transform]) + data[at + 1 :]
        write(f"{name}.jpg", changed)
        c, m, y, k = np.moveaxis(np.asarray(Image.open(io.BytesIO(changed))).astype(int), 2, 0)
        mixed = [(255 - ink) * (255 - k) for ink in (c, m, y)]
        expect(name, np.stack([(value + 127) // 255 for value in mixed], axis=2).astype(np.uint8))


def gif_bytes(canvas, frames, palette, transparent=None):
    """An animated GIF of (x, y, index array) frames; Pillow would crop and rearrange them."""
    size = struct.pack("<HH", *canvas)
    data = b"GIF89a" + size + bytes([0x80 | 0x70 | 2, 0, 0]) + palette.tobytes()
    for x, y, index in frames:
        flags = 0 if transparent is None else 1
        data += b"\x21\xf9\x04" + struct.pack("<BHB", flags, 10, transparent or 0) + b"\0"
        height, width = index.shape
        data += b"\x2c" + struct.pack("<HHHHB", x, y, width, height, 0) + b"\x03"
        # Codes of 4 bits, with a clear code (8) often enough that the width never grows.
        codes = []
        for position, value in enumerate(index.flatten()):
            if position % 4 == 0:
                codes.append(8)
            codes.append(int(value))
        codes.append(9)
        bits = sum(code << (4 * position) for position, code in enumerate(codes))
        packed = bits.to_bytes((len(codes) * 4 + 7) // 8, "little")
        for start in range(0, len(packed), 255):
            block = packed[start : start + 255]
            data += bytes([len(block)]) + block
        data += b"\0"
    return data + b"\x3b"


def make_animations():
    palette = noisy(1, 8)[0]
    first, second = (RNG.integers(0, 8, shape).astype(np.uint8) for shape in [(4, 6), (9, 11)])
    write("animated.gif", gif_bytes((11, 9), [(3, 2, first), (0, 0, second)], palette))
    canvas = np.tile(BACKGROUND.astype(np.uint8), (9, 11, 1))
    canvas[2:6, 3:9] = palette[first]
    expect("animated", canvas)
    write("animated-transparent.gif", gif_bytes((11, 9), [(0, 0, second), (3, 2, first)], palette, transparent=5))
    shown = palette[second].copy()
    shown[second == 5] = BACKGROUND
    expect("animated-transparent", shown)

    one, two = noisy(7, 5), noisy(7, 5)
    frames = [Image.fromarray(frame) for frame in (one, two)]
    options = dict(save_all=True, append_images=frames[1:], duration=50)
    write("apng.png", encoded(frames[0], "PNG", **options))
    expect("apng", one)
    write("animated-webp.webp", encoded(frames[0], "WEBP", lossless=True, **options))
    expect("animated-webp", one)


def make_webp():
    rgba = noisy(9, 11, 4)
    rgba[2:4, 1:5, 3] = 255
    write("lossless.webp", encoded(Image.fromarray(rgba, "RGBA"), "WEBP", lossless=True, exact=True))
    expect("lossless", over(rgba[..., :3], rgba[..., 3]))
    stored = smooth(7, 5)
    write("exif8-webp.webp", encoded(Image.fromarray(stored), "WEBP", lossless=True, exif=exif(8)))
    expect("exif8-webp", UPRIGHT[8](stored))
    data = encoded(Image.fromarray(smooth(33, 47)), "WEBP", quality=90)
    write("lossy.webp", data)
    expect("lossy", np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def make_others():
    photo = smooth(7, 5)
    plane = photo[..., 0]
    write("rgb.bmp", encoded(Image.fromarray(photo), "BMP"))
    expect("rgb", photo)
    palette = noisy(1, 256)[0]
    indexed = Image.fromarray(plane, "P")
    indexed.putpalette(palette.tobytes())
    write("palette-bmp.dib", encoded(indexed, "BMP"))
    expect("palette-bmp", palette[plane])

    write("rgb-lzw.tiff", encoded(Image.fromarray(photo), "TIFF", compression="tiff_lzw"))
    expect("rgb-lzw", photo)
    wide = smooth(7, 5, 1, 65535)[..., 0]
    write("grey16-tiff.tif", encoded(Image.fromarray(wide), "TIFF"))
    expect("grey16-tiff", grey(to8(wide)))
    write("exif5-tiff.tif", encoded(Image.fromarray(photo), "TIFF", tiffinfo={0x112: 5}))
    expect("exif5-tiff", UPRIGHT[5](photo))

    write("binary.ppm", b"P6\n# a comment\n5 7\n255\n" + photo.tobytes())
    expect("binary", photo)
    write("ascii.ppm", b"P3\n5 7\n255\n" + "\n".join(map(str, photo.flatten())).encode() + b"\n")
    expect("ascii", photo)
    write("binary-grey.pgm", b"P5 5 7 255\n" + plane.tobytes())
    expect("binary-grey", grey(plane))
    write("ascii-grey.pgm", b"P2\n5 7\n255\n" + " ".join(map(str, plane.flatten())).encode() + b"\n")
    expect("ascii-grey", grey(plane))
    write("sixteen.pgm", b"P5\n5 7\n65535\n" + wide.astype(">u2").tobytes())
    expect("sixteen", grey(to8(wide)))
    bits = RNG.integers(0, 2, (7, 13)).astype(np.uint8)
    write("bits.pbm", b"P4\n13 7\n" + b"".join(np.packbits(row).tobytes() for row in bits))
    expect("bits", grey(255 - bits * 255))
    rgba = noisy(7, 5, 4)
    header = b"P7\nWIDTH 5\nHEIGHT 7\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    write("rgba-pam.pam", header + rgba.tobytes())
    expect("rgba-pam", over(rgba[..., :3], rgba[..., 3]))


def make_bad():
    write("bad/empty.png", b"")
    write("bad/text.jpg", b"This is a text file that calls itself a photograph.\n")
    write("bad/random.webp", bytes([0x17]) + RNG.bytes(999))
    nothing = zlib.compress(b"\0" * 4096)
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", nothing) + chunk(b"IEND", b"")
    write("bad/bomb.png", bomb)
    write("bad/bomb.gif", gif_bytes((60000, 60000), [(0, 0, np.zeros((2, 2), np.uint8))], np.zeros((8, 3), np.uint8)))
    bmp = struct.pack("<2sIHHI", b"BM", 54 + 64, 0, 0, 54)
    bmp += struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 2835, 2835, 0, 0)
    write("bad/bomb.bmp", bmp + b"\0" * 64)
    tags = [(256, 60000), (257, 60000), (258, 8), (259, 1), (262, 1), (273, 150), (277, 1), (278, 60000), (279, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    write("bad/bomb.tif", tiff.ljust(150, b"\0") + b"\0" * 64)
    write("bad/bomb.ppm", b"P6\n60000 60000\n255\n" + b"\0" * 64)
    frame = bytes([8]) + struct.pack(">HH", 60000, 60000) + bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    small = encoded(Image.fromarray(smooth(8, 8)), "JPEG", subsampling=0)
    at = small.index(b"\xff\xc0") + 4
    write("bad/bomb.jpg", small[:at] + frame[:5] + small[at + 5 :])
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (59999).to_bytes(3, "little") * 2
    vp8l = encoded(Image.fromarray(noisy(2, 2)), "WEBP", lossless=True)[12:]
    write("bad/bomb.webp", b"RIFF" + struct.pack("<I", 4 + len(vp8x) + len(vp8l)) + b"WEBP" + vp8x + vp8l)


# Sizes that a loader meets, the filters, and boxes: (height, width) -> (resized height, width), offset and size of the crop.
RESIZES = [
    ("down", (53, 73), (24, 33), (3, 7), (16, 20)),
    ("up", (9, 11), (40, 49), (5, 8), (32, 40)),
    ("same", (53, 73), (53, 73), (11, 20), (32, 40)),
]
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


def make_resizes():
    photo = Image.open(PHOTOS[1]).convert("RGB")
    for name, source, resized, (top, left), (height, width) in RESIZES:
        original = photo.crop((0, 0, source[1], source[0]))
        write(f"resize/{name}.png", encoded(original, "PNG", optimize=True))
        for filter_name, filter in FILTERS.items():
            whole = original.resize((resized[1], resized[0]), filter)
            crop = whole.crop((left, top, left + width, top + height))
            write(f"resize/{name}-{filter_name}.png", encoded(crop, "PNG", optimize=True))


# --- layouts and ranges that decoders get wrong ---


def over_exact(rgb, alpha):
    """Premultiplied `rgb` over the background; only the background's share is rounded."""
    rgb, alpha = rgb.astype(int), alpha.astype(int)[..., None]
    return np.minimum(rgb + (BACKGROUND * (255 - alpha) + 127) // 255, 255).astype(np.uint8)


def jpeg(name, data, decoded=None):
    """Writes `data`, and what libjpeg decodes it to. If libjpeg cannot read it as it is, it decodes `decoded` instead."""
    write(f"{name}.jpg", data)
    expect(name, np.asarray(Image.open(io.BytesIO(decoded or data)).convert("RGB")))


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def without(data, marker):
    """`data` without the segments of `marker`."""
    sign = bytes([0xFF, marker])
    while (at := data.find(sign)) >= 0:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        data = data[:at] + data[at + 2 + length :]
    return data


def cjpeg(photo, *options, scans=None):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as script:
        if scans:
            script.write(scans)
            script.flush()
            options = (*options, "-scans", script.name)
        command = ["cjpeg", "-quality", "88", *options]
        return subprocess.run(command, input=encoded(photo, "PPM"), capture_output=True, check=True).stdout


def layouts_photo():
    return Image.open(PHOTOS[0]).convert("RGB").crop((20, 15, 57, 42))


def make_layouts():
    photo = layouts_photo()
    apart = "0;1;2;"
    for name, options, scans in [
        ("scans-444", ["-sample", "1x1"], apart),
        ("scans-420", ["-sample", "2x2"], apart),
        ("scans-440", ["-sample", "1x2"], apart),
        ("scans-cr-y-cb", ["-sample", "2x2"], "2;0;1;"),
        ("scans-cbcr-y", ["-sample", "2x1"], "1 2;0;"),
        ("scans-restarts", ["-sample", "2x2", "-restart", "2B"], apart),
        ("scans-tables-between", ["-sample", "1x1", "-optimize"], "1;2;0;"),
        ("sampling-411", ["-sample", "4x1"], None),
        ("sampling-440", ["-sample", "1x2"], None),
        ("sampling-441-scans", ["-sample", "1x4"], apart),
        ("sampling-luma-smaller", ["-sample", "1x1,2x2,2x2"], None),
        ("sampling-luma-smaller-progressive", ["-sample", "1x1,2x1,2x1", "-progressive"], None),
        ("sampling-422-odd", ["-sample", "2x2,1x2,1x2"], None),
        ("sampling-cb-cr-differ", ["-sample", "2x2,2x1,1x1"], None),
        ("progressive-440", ["-sample", "1x2", "-progressive"], None),
        ("progressive-apart", ["-sample", "2x2"], "0:0-0, 0, 0;1:0-0, 0, 0;2:0-0, 0, 0;2:1-63, 0, 0;0:1-63, 0, 0;1:1-63, 0, 0;"),
        ("grey-2x2", ["-grayscale", "-sample", "2x2"], None),
        ("grey-2x2-progressive", ["-grayscale", "-sample", "2x2", "-progressive"], None),
    ]:
        jpeg(name, cjpeg(photo, *options, scans=scans))

    plain = encoded(photo, "JPEG", quality=88, subsampling=0)
    bare = without(plain, 0xE0)
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + b"\0")
    jpeg("adobe-rgb-by-number", bare[:2] + adobe + bare[2:])
    jpeg("adobe-under-jfif", plain[:2] + adobe + plain[2:])
    scan = bare.index(b"\xff\xda")
    jpeg("adobe-after-frame", bare[:scan] + adobe + bare[scan:])
    grey = without(encoded(photo.convert("L"), "JPEG", quality=88), 0xE0)
    scan = grey.index(b"\xff\xda")
    jpeg("grey-adobe-after-frame", grey[:scan] + adobe + grey[scan:])
    jpeg("adobe-is-xmp", plain[:2] + segment(0xEE, b"http://ns.adobe.com/xap/1.0/\0<x/>") + plain[2:])
    tables = plain.index(b"\xff\xdb")
    jpeg("text-between", plain[:tables] + b"text between" + plain[tables:])
    jpeg("fill-bytes", plain[:tables] + b"\xff" * 9 + plain[tables:])
    jpeg("no-huffman-tables", without(plain, 0xC4), plain)
    frame = plain.index(b"\xff\xc0") + 5
    height = plain[frame : frame + 2]
    lines = segment(0xDC, height) + b"\xff\xd9"
    jpeg("dnl-agrees", plain[:-2] + lines, plain)
    jpeg("dnl-alone", plain[:frame] + b"\0\0" + plain[frame + 2 : -2] + lines, plain)
    write("bad/no-height.jpg", plain[:frame] + b"\0\0" + plain[frame + 2 :])
    write("bad/dnl-differs.jpg", plain[:-2] + segment(0xDC, b"\0\x09") + b"\xff\xd9")
    write("bad/lossless.jpg", plain.replace(b"\xff\xc0", b"\xff\xc3"))
    write("bad/twelve-bits.jpg", plain[: frame - 1] + b"\x0c" + plain[frame:])
    write("bad/arithmetic.jpg", cjpeg(photo, "-arithmetic"))
    # A component whose size is neither the largest nor the smallest, in a scan of its own.
    write("bad/sampling-of-three-sizes.jpg", cjpeg(photo, "-sample", "4x1,2x1,1x1", scans=apart))


def long_exif(orientation, order=">"):
    """As `exif`, with the orientation as a LONG."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(order + "IHHHIII", 8, 1, 0x112, 4, 1, orientation, 0)


def make_turned():
    photo = Image.fromarray(smooth(30, 21))
    data = encoded(photo, "JPEG", quality=92, subsampling=0)
    decoded = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    first, second = (segment(0xE1, b"Exif\0\0" + exif(orientation)) for orientation in (6, 1))
    for name, blocks, turned in [
        ("exif-two-blocks", first + second, 6),
        ("exif-long", segment(0xE1, b"Exif\0\0" + long_exif(8)), 8),
        ("exif-nine", segment(0xE1, b"Exif\0\0" + exif(9)), 1),
    ]:
        write(f"{name}.jpg", data[:2] + blocks + data[2:])
        expect(name, UPRIGHT[turned](decoded))
    # The same in JPEGs with several scans, for which no JPEG library reads EXIF.
    data = cjpeg(layouts_photo(), "-sample", "2x2", scans="0;1;2;")
    write("exif-scans.jpg", data[:2] + first + data[2:])
    expect("exif-scans", UPRIGHT[6](np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))

    stored = smooth(7, 5)
    block = b"Exif\0\0" + exif(6)
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    for name, kind, content in [
        ("exif-raw-profile", b"zTXt", b"\0\0" + zlib.compress(text)),
        ("exif-raw-profile-plain", b"tEXt", b"\0" + text),
        ("exif-raw-profile-international", b"iTXt", b"\0\1\0\0\0" + zlib.compress(text)),
    ]:
        profile = chunk(kind, b"Raw profile type exif" + content)
        write(f"{name}.png", png(5, 7, 8, 2, plain_rows(stored), before=profile))
        expect(name, UPRIGHT[6](stored))


def bitfield_bmp(rgba, header):
    """A BMP of 32 bits with masks, whose header has `header` bytes: 108 (version 4) or 124 (5)."""
    height, width = rgba.shape[:2]
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    info += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    info = info.ljust(header, b"\0")
    start = 14 + header
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + pixels


def make_ranges():
    rng = np.random.default_rng(20261129)
    rgba = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)
    for header in (108, 124):
        write(f"alpha-{header}.bmp", bitfield_bmp(rgba, header))
        expect(f"alpha-{header}", over(rgba[..., :3], rgba[..., 3]))
        unseen = np.dstack([rgba[..., :3], np.zeros((7, 5), np.uint8)])
        write(f"alpha-zero-{header}.bmp", bitfield_bmp(unseen, header))
        expect(f"alpha-zero-{header}", rgba[..., :3])

    rgb = rgba[..., :3]
    premultiplied = ((rgb.astype(int) * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    tiff("alpha-associated", np.dstack([premultiplied, rgba[..., 3]]), extra=1)
    expect("alpha-associated", over_exact(premultiplied, rgba[..., 3]))
    tiff("alpha-unassociated", rgba, extra=2)
    expect("alpha-unassociated", over(rgb, rgba[..., 3]))
    tiff("alpha-grey", rgba[..., [0, 3]], extra=2)
    expect("alpha-grey", over(grey(rgb[..., 0]), rgba[..., 3]))
    tiff("extra-unspecified", rgba, extra=0)
    expect("extra-unspecified", rgb)
    for name, samples, stated in [
        ("float-unit", (rgb / 255).astype(np.float32), None),
        ("float-half", (rgb / 255).astype(np.float16), None),
        ("float-double", rgb / 255, None),
        ("float-stated", rgb.astype(np.float32), (0, 255)),
        ("float-negative-stated", (rgb / 127.5 - 1).astype(np.float32), (-1, 1)),
        ("uint32-stated", rgb.astype(np.uint32) * 1000, (0, 255000)),
        ("int16-stated", rgb.astype(np.int16) - 100, (-100, 155)),
    ]:
        tiff(name, samples, stated=stated)
        expect(name, rgb)
    tiff("big-endian", rgb.astype(np.uint16) * 257, order=">")
    expect("big-endian", rgb)
    tiff("planar", rgb, planar=True)
    expect("planar", rgb)
    tiff("cmyk", rgba, photometric=5)
    inks = rgba.astype(int)
    expect("cmyk", (((255 - inks[..., :3]) * (255 - inks[..., 3:]) + 127) // 255).astype(np.uint8))
    tiff("white-is-zero", rgb[..., :1], photometric=0)
    expect("white-is-zero", grey(255 - rgb[..., 0]))
    for name, samples, photometric in [
        ("float-beyond", rgb.astype(np.float32), 2),
        ("float-negative", (rgb / 127.5 - 1).astype(np.float32), 2),
        ("float-nan", np.where(rgb == rgb[3, 2], np.nan, 0.5).astype(np.float32), 2),
        ("uint32", rgb.astype(np.uint32), 2),
        ("int16", rgb.astype(np.int16), 2),
        ("palette", rgb[..., :1], 3),
        ("lab", rgb, 8),
        ("ycbcr", rgb, 6),
    ]:
        tiff(f"bad/{name}", samples, photometric=photometric)
    tiff("bad/fill-order", rgb, fill_order=2)

    # JPEG in TIFF, in strips with shared tables, as libtiff writes it.
    photo = layouts_photo()
    data = encoded(photo, "TIFF", compression="jpeg", quality=90, strip_size=37 * 3 * 16)
    write("tiff-jpeg.tif", data)
    expect("tiff-jpeg", np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    data = encoded(photo.convert("YCbCr"), "TIFF", compression="jpeg", quality=90)
    write("tiff-jpeg-ycbcr.tif", data)
    expect("tiff-jpeg-ycbcr", np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def tiff(name, samples, photometric=None, extra=None, stated=None, planar=False, order="<", fill_order=None):
    """An uncompressed TIFF of `samples` [H, W, channels]."""
    height, width, channels = samples.shape
    kinds = {"u": 1, "i": 2, "f": 3}
    photometric = photometric if photometric is not None else (1 if channels < 3 else 2)
    laid = samples.transpose(2, 0, 1) if planar else samples
    data = np.ascontiguousarray(laid).astype(samples.dtype.newbyteorder(order)).tobytes()
    planes = channels if planar else 1
    # Tag, type (3 SHORT, 4 LONG, 11 FLOAT), values.
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [8 * samples.dtype.itemsize] * channels), (259, 3, [1]),
        (262, 3, [photometric]), (273, 4, None), (277, 3, [channels]), (278, 4, [height]),
        (279, 4, [len(data) // planes] * planes), (284, 3, [2 if planar else 1]),
    ]
    if fill_order is not None:
        tags.insert(5, (266, 3, [fill_order]))
    if extra is not None:
        tags.append((338, 3, [extra]))
    tags.append((339, 3, [kinds[samples.dtype.kind]] * channels))
    if stated:
        tags += [(340, 11, [stated[0]] * channels), (341, 11, [stated[1]] * channels)]
    letters = {3: "H", 4: "I", 11: "f"}
    start = 8 + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    # The strips follow the directory; after them come the values that don't fit into their entries.
    strips = [start + at * (len(data) // planes) for at in range(planes)]
    for tag, kind, values in tags:
        values = strips if values is None else values
        packed = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
        if len(packed) > 4:
            offset = struct.pack(order + "I", start + len(data) + len(behind))
            behind += packed
            packed = offset
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    write(f"{name}.tif", mark + struct.pack(order + "IH", 8, len(tags)) + entries + b"\0" * 4 + data + behind)


def make_off_spec():
    rng = np.random.default_rng(20261130)
    rgb = rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    whole = png(5, 7, 8, 2, plain_rows(rgb))
    write("no-iend.png", whole[:-12])
    write("half-iend.png", whole[:-5])
    wrong = bytearray(chunk(b"gAMA", struct.pack(">I", 45455)))
    wrong[-1] ^= 1
    write("gamma-wrong-crc.png", png(5, 7, 8, 2, plain_rows(rgb), before=bytes(wrong)))
    for name in ("no-iend", "half-iend", "gamma-wrong-crc"):
        expect(name, rgb)
    cgbi = whole[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + whole[8:]
    write("bad/cgbi.png", cgbi)

    photo = smooth(9, 11)
    lossless = encoded(Image.fromarray(photo), "WEBP", lossless=True)[12:]
    lossy = encoded(Image.fromarray(photo), "WEBP", quality=80)
    for name, flags, content, decoded in [
        ("flags-lossless", 0x2C, lossless, photo),
        ("flags-lossy", 0x3C, lossy[12:], np.asarray(Image.open(io.BytesIO(lossy)).convert("RGB"))),
    ]:
        size = (10).to_bytes(3, "little") + (8).to_bytes(3, "little")
        extended = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + size
        body = b"WEBP" + extended + content
        write(f"{name}.webp", b"RIFF" + struct.pack("<I", len(body)) + body)
        expect(name, decoded)
    rgba = rng.integers(0, 256, (9, 11, 4), dtype=np.uint8)
    unsaid = encoded(Image.fromarray(rgba, "RGBA"), "WEBP", lossless=True, exact=True)[12:]
    body = b"WEBP" + extended[:8] + bytes([0, 0, 0, 0]) + size + unsaid
    write("alpha-unsaid.webp", b"RIFF" + struct.pack("<I", len(body)) + body)
    expect("alpha-unsaid", over(rgba[..., :3], rgba[..., 3]))

    palette = rng.integers(0, 256, (8, 3), dtype=np.uint8)
    index = rng.integers(0, 8, (9, 11)).astype(np.uint8)
    write("no-screen.gif", gif_bytes((0, 0), [(3, 2, index)], palette))
    expect("no-screen", palette[index])
    write("no-trailer.gif", gif_bytes((11, 9), [(0, 0, index)], palette)[:-1])
    expect("no-trailer", palette[index])
    write("bad/frame-outside.gif", gif_bytes((11, 9), [(11, 2, index)], palette))


def make_other_kinds():
    pixels = b"\x8b\x4a" * 40
    write("bad/heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + pixels)
    write("bad/avif.png", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + pixels)
    write("bad/jxl.jpg", b"\xff\x0a" + pixels)
    write("bad/jp2.jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + pixels)
    write("bad/jpeg-ls.jpg", b"\xff\xd8" + segment(0xF7, b"\x08\0\x05\0\x07\x01\x01\x11\0") + pixels)
    write("bad/psd.tif", b"8BPS\0\1" + pixels)
    write("bad/raw.tif", b"II*\0\x10\0\0\0CR\2\0" + pixels)
    write("bad/page.jpg", b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>")
    write("bad/drawing.png", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n<svg/>")
    write("bad/error.jpg", b'{"error": "not found"}')
    write("bad/document.jpg", b"%PDF-1.7\n" + pixels)
    write("bad/video.gif", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + pixels)
    write("bad/archive.png", b"PK\3\4" + pixels)
    write("bad/metadata.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X" + pixels)
    write("bad/pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:e349\nsize 30\n")


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    make_sizes()
    make_png()
    make_jpeg()
    make_animations()
    make_webp()
    make_others()
    make_bad()
    make_resizes()
    make_layouts()
    make_turned()
    make_ranges()
    make_off_spec()
    make_other_kinds()
    total = sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file())
    print(f"{total} bytes")
