#!/usr/bin/env python3
"""Makes the reconstructions whose figures the definitions name as landmarks: photographs as JPEG, and blurred.

    scripts/landmarks.py data/photos96/val LANDMARKS
    for kind in jpeg10 jpeg50 blur2 blur4; do pixtok eval LANDMARKS/$kind --data LANDMARKS/original; done

JPEG is Pillow's, with 4:2:0 chroma; a blur of r pixels is a Gaussian with that standard deviation. Needs the Python package
pillow.
"""

import io
import pathlib
import sys

from PIL import Image, ImageFilter


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


KINDS = {
    "original": lambda image: image,
    "jpeg10": lambda image: as_jpeg(image, 10),
    "jpeg50": lambda image: as_jpeg(image, 50),
    "blur2": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "blur4": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    images, out = map(pathlib.Path, sys.argv[1:])
    for path in sorted(images.rglob("*.jpg")):
        image = Image.open(path).convert("RGB")
        name = path.relative_to(images)
        for kind, change in KINDS.items():
            file = out / kind / name.parent / f"{name.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            change(image).save(file)


if __name__ == "__main__":
    main()
