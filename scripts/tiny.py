"""What test_readers.py and test_python.py share: tiny tokenizers, and photographs that all decode alike."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
sys.path.insert(0, str(ROOT / "python"))

from pixtok_reader import model  # noqa: E402

# A different index is a tie when latents no farther off than this have the other one.
TIE = 1e-4
# Draws of such latents.
DRAWS = 256


def pixtok(*args: str | Path) -> None:
    """Runs the program on one thread; when it fails, says what it said and stops."""
    command = [str(arg) for arg in (PIXTOK, *args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")


def train(run: Path, config: str, *settings: str) -> None:
    """A tokenizer after six steps, for images of 64 pixels that are taken as they are."""
    steps = ["train.steps=6", "train.batch_size=4", "train.precision='fp32'", "data.resize=64", *settings]
    chosen = [word for setting in steps for word in ("--set", setting)]
    pixtok("train", f"configs/photos96-{config}.toml", "--run", run, "--threads", "1", *chosen)


def photographs(folder: Path, count: int, sizes: list[tuple[int, int]]) -> None:
    """The first photographs as PNG files in folders by class, cut to `sizes` (width, height) in turn."""
    source = ROOT / "data/photos96/train"
    for number, path in enumerate(sorted(source.rglob("*.jpg"))[:count]):
        width, height = sizes[number % len(sizes)]
        target = (folder / path.relative_to(source)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("RGB").crop((9, 5, 9 + width, 5 + height)).save(target)


def image(path: Path) -> torch.Tensor:
    """A PNG file -> [1, 3, H, W] in [-1, 1]; not contiguous, as pictures are in Python."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def ties(
    tokenizer: model.Tokenizer, images: torch.Tensor, ours: torch.Tensor, other: torch.Tensor
) -> tuple[int, int]:
    """How many indices of one image differ and are ties, and how many differ otherwise.

    Of several codebooks the first that differs counts: what later stages of a residual quantizer do follows
    from it.
    """
    if torch.equal(ours, other):
        return 0, 0
    z = tokenizer.latents(images)
    # [B, h, w, codebooks], of a sequence too.
    differ = (ours != other).reshape(len(z), *z.shape[2:], -1)
    places = differ.any(3).nonzero().tolist()
    tied = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        noise = (torch.rand(z.shape, generator=generator) * 2 - 1) * TIE
        drawn = tokenizer.quantizer.quantize(z + noise)
        same = drawn == other.reshape(drawn.shape)
        for place in map(tuple, places):
            first = int(differ[place].int().argmax())
            if same[place][: first + 1].all():
                tied.add(place)
    return len(tied), len(places) - len(tied)


def rows_by_key(rows: Iterator[dict]) -> dict[str, dict]:
    """Rows by their names, which must differ."""
    rows = list(rows)
    found = {row["key"]: row for row in rows}
    assert len(found) == len(rows), "two rows have one key"
    return found
