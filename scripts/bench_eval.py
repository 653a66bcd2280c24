#!/usr/bin/env python3
"""What `pixtok eval` costs beside encoding and decoding, and how much memory it takes.

    scripts/bench_eval.py [--images 1000,10000] [--threads 1]

Evaluates links to the embedded photographs, as many as asked for, by a yardstick model of one training step, with PSNR,
SSIM and the codebook's figures. The ratio is the seconds of the whole command over those that it says encoding and
decoding took.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"


def evaluate(run: pathlib.Path, folder: pathlib.Path, compute: list[str]) -> dict:
    command = [PIXTOK, "eval", run, "--data", folder, "--metrics", "psnr_db,ssim", "--json", "-", *compute]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    figures = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"pixtok eval failed with status {status}")
    seconds = time.monotonic() - began
    alone = figures["images"] * (1 / figures["encode_images_per_sec"] + 1 / figures["decode_images_per_sec"])
    return {"seconds": seconds, "alone": alone, "peak_mib": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="1000,10000", help="set sizes, separated by commas (%(default)s)")
    parser.add_argument("--threads", default="1", help="threads of libtorch (%(default)s)")
    args = parser.parse_args()
    compute = ["--device", "cpu", "--threads", args.threads]
    photographs = sorted((ROOT / "data/photos96/train").rglob("*.jpg"))
    print("| images | seconds | encode + decode alone | ratio | peak MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        run = pathlib.Path(scratch) / "run"
        train = [PIXTOK, "train", "configs/photos96-fsq.toml", "--run", run, "--set", "train.steps=1", "--set", "optimizer.schedule.warmup_steps=0"]
        subprocess.run([*train, *compute], check=True, cwd=ROOT, capture_output=True)
        for images in map(int, args.images.split(",")):
            folder = pathlib.Path(scratch) / f"images-{images}"
            folder.mkdir()
            for i in range(images):
                (folder / f"{i:06}.jpg").symlink_to(photographs[i % len(photographs)])
            row = evaluate(run, folder, compute)
            print(
                f"| {images} | {row['seconds']:.1f} | {row['alone']:.1f} | {row['seconds'] / row['alone']:.2f} | {row['peak_mib']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
