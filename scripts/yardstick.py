#!/usr/bin/env python3
"""The README's results table: each arm of the yardstick with three seeds, trained, evaluated, averaged.

Runs that are finished already (checkpoints/yardstick/ARM-SEED) are not run again. On one thread, so that any machine
of one processor type gives the same bits; about an hour.
"""

import json
import math
import pathlib
import subprocess
import sys

PIXTOK = "target/debug/pixtok"
RUNS = pathlib.Path("checkpoints/yardstick")
COMPUTE = ("--device", "cpu", "--threads", "1")
SEEDS = (0, 1, 2)
ARMS = {
    "FSQ [8,5,5,5]": ("fsq", "configs/photos96-fsq.toml", []),
    "VQ 1024": ("vq", "configs/photos96-vq.toml", []),
    "VQ 1024, restart": ("vq-restart", "configs/photos96-vq.toml", ["--set", "quantizer.restart_threshold=1.0"]),
}


def figures(name: str, config: str, extra: list[str], seed: int) -> dict:
    """Trains (or continues, or skips) one run and returns its `pixtok eval --json`."""
    run = RUNS / f"{name}-{seed}"
    train = [PIXTOK, "train", config, "--run", str(run), *COMPUTE, "--set", f"seed={seed}", *extra]
    if (run / "config.toml").exists():
        train.append("--resume")
    subprocess.run(train, check=True, stdout=sys.stderr)
    out = subprocess.run([PIXTOK, "eval", str(run), *COMPUTE, "--json", "-"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def main() -> None:
    subprocess.run(["cargo", "build", "--quiet", "--locked"], check=True)
    seeds = " / ".join(map(str, SEEDS))
    print(f"| arm | K | psnr_db, seeds {seeds} | mean | SE | usage | perplexity | ssim |")
    print("|---|---|---|---|---|---|---|---|")
    for arm, (name, config, extra) in ARMS.items():
        runs = [figures(name, config, extra, seed) for seed in SEEDS]
        each = lambda key, digits: " / ".join(f"{run[key]:.{digits}f}" for run in runs)
        psnr = [run["psnr_db"] for run in runs]
        mean = sum(psnr) / len(psnr)
        error = math.sqrt(sum((x - mean) ** 2 for x in psnr) / (len(psnr) - 1) / len(psnr))
        print(
            f"| {arm} | {runs[0]['codebook_size']} | {each('psnr_db', 2)} | {mean:.2f} | {error:.2f} "
            f"| {each('usage', 2)} | {each('perplexity', 0)} | {each('ssim', 3)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
