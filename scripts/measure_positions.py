#!/usr/bin/env python3
"""How well a ViT trained at 64×64 does at other sizes, by its positions there and its attention's norm.

    scripts/measure_positions.py [--out checkpoints/positions] [--seeds 0,1] [--threads N]

Trains configs/photos96-vit-fsq.toml with each attention norm and seed, and evaluates each run on the validation photographs
at each size with each choice of --positions. Prints the table of docs/networks.md. The same command goes on where it was
stopped: a training from its last checkpoint, and evaluations that are done are not repeated. To begin again, remove the
folder.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
CONFIG = ROOT / "configs/photos96-vit-fsq.toml"
NORMS = ["none", "key-l2"]
POSITIONS = ["none", "interpolate", "ntk"]
# Height and width. The first is the trained one.
SIZES = [(64, 64), (96, 96), (96, 64)]


def pixtok(*words: str | pathlib.Path) -> None:
    status = subprocess.run([PIXTOK, *words], cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    if status != 0:
        raise SystemExit(status)


def protocol(out: pathlib.Path, height: int, width: int) -> pathlib.Path:
    """A config that prepares images of this size. The photographs have 96×96 pixels and are cut at the centre."""
    before, trained, after = CONFIG.read_text().partition("image_size = 64\n")
    if not trained:
        raise SystemExit(f"{CONFIG} does not train at 64×64 any more")
    file = out / f"{height}x{width}.toml"
    file.write_text(f"{before}image_size = [{height}, {width}]\n{after}")
    return file


def train(run: pathlib.Path, norm: str, seed: str, compute: list[str]) -> None:
    """Trains what is left of a run, which may be nothing."""
    settings = ["--set", f"seed={seed}", "--set", f"model.attention_norm={norm}"]
    pixtok("train", CONFIG, "--run", run, "--or-resume", *settings, *compute)


def psnr(run: pathlib.Path, protocol: pathlib.Path, positions: str, compute: list[str]) -> float:
    """The mean of a run's `psnr_db` on images that are prepared by `protocol`."""
    file = run.parent / f"{run.name}-{protocol.stem}-{positions}.json"
    if not file.exists():
        how = ["--protocol", protocol, "--positions", positions, "--metrics", "psnr_db,ssim"]
        pixtok("eval", run, *how, "--json", file, *compute)
    return json.loads(file.read_text())["psnr_db"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default="checkpoints/positions", help="%(default)s")
    parser.add_argument("--seeds", default="0,1", help="separated by commas (%(default)s)")
    parser.add_argument("--threads", help="threads of libtorch; by default one for each core")
    args = parser.parse_args()
    compute = ["--threads", args.threads] if args.threads else []
    out, seeds = args.out.absolute(), args.seeds.split(",")
    out.mkdir(parents=True, exist_ok=True)
    protocols = [protocol(out, *size) for size in SIZES]
    runs = {norm: [out / f"{norm}-seed-{seed}" for seed in seeds] for norm in NORMS}
    for norm in NORMS:
        for run, seed in zip(runs[norm], seeds):
            train(run, norm, seed, compute)
    rows = []
    for norm in NORMS:
        for positions in POSITIONS:
            cells = []
            for file in protocols:
                values = [psnr(run, file, positions, compute) for run in runs[norm]]
                cells.append(" / ".join(f"{value:.2f}" for value in values))
            rows.append(f"| `{norm}` | `{positions}` | {' | '.join(cells)} |")
    sizes = " | ".join(f"{height}×{width}" for height, width in SIZES)
    print(f"| attention_norm | --positions | {sizes} |\n|---|---|{'---|' * len(SIZES)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
