#!/usr/bin/env python3
"""The README's results tables: arms of the yardstick, each trained with some seeds, evaluated, averaged.

    scripts/yardstick.py [--seeds 0,1,2] [ARM …]

Without names the three arms of the first table; `all` is every arm. Runs that are finished already
(checkpoints/yardstick/ARM-SEED) are not run again. On one thread, so that any machine of one processor type gives the
same bits; 4 to 7 minutes a run.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

PIXTOK = "target/debug/pixtok"
RUNS = pathlib.Path("checkpoints/yardstick")
COMPUTE = ("--device", "cpu", "--threads", "1")
RESTART = "quantizer.restart_threshold"
# Name, label, config, overrides.
ARMS = (
    ("fsq", "FSQ [8,5,5,5]", "fsq", []),
    ("vq", "VQ 1024", "vq", []),
    ("vq-restart", "VQ 1024, restart", "vq", [f"{RESTART}=1.0"]),
    ("simvq", "SimVQ 1024", "simvq", []),
    ("lfq", "LFQ 10 bits", "lfq", []),
    ("bsq", "BSQ 10 bits", "bsq", []),
    ("ibq", "IBQ 512", "ibq", []),
    ("residual-fsq", "residual FSQ 2 × [8,5,5,5]", "residual-fsq", []),
    ("grouped-vq", "grouped VQ 2 × 1024", "grouped-vq", []),
    ("vq-16384", "VQ 16384, restart", "vq-16384", []),
    ("vq-16384-plain", "VQ 16384, no restart", "vq-16384", [f"{RESTART}=0.0"]),
)
DEFAULT = ("fsq", "vq", "vq-restart")


def figures(name: str, config: str, overrides: list[str], seed: int) -> dict:
    """Trains (or continues, or skips) one run and returns its `pixtok eval --json`."""
    run = RUNS / f"{name}-{seed}"
    train = [PIXTOK, "train", f"configs/photos96-{config}.toml", "--run", str(run), *COMPUTE]
    for override in [f"seed={seed}", *overrides]:
        train += ["--set", override]
    if (run / "config.toml").exists():
        train.append("--resume")
    subprocess.run(train, check=True, stdout=sys.stderr)
    out = subprocess.run([PIXTOK, "eval", str(run), *COMPUTE, "--json", "-"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for name, *_ in ARMS]
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"all, or some of {', '.join(names)}")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas (%(default)s)")
    args = parser.parse_args()
    args.arms = names if args.arms == ["all"] else args.arms or list(DEFAULT)
    if unknown := set(args.arms) - set(names):
        parser.error(f"no arm is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    try:
        args.seeds = [int(seed) for seed in args.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds {args.seeds} is no list of numbers like 0,1,2")
    return args


def main() -> None:
    args = arguments()
    subprocess.run(["cargo", "build", "--quiet", "--locked"], check=True)
    several = len(args.seeds) > 1
    seeds = ("seeds " if several else "seed ") + " / ".join(map(str, args.seeds))
    print(f"| arm | K | bits per token | psnr_db, {seeds} |{' mean | SE |' if several else ''} usage | perplexity | ssim |")
    print("|---" * (9 if several else 7) + "|")
    for name, label, config, overrides in ARMS:
        if name not in args.arms:
            continue
        runs = [figures(name, config, overrides, seed) for seed in args.seeds]
        each = lambda key, digits: " / ".join(f"{run[key]:.{digits}f}" for run in runs)
        psnr = [run["psnr_db"] for run in runs]
        mean = sum(psnr) / len(psnr)
        cells = [label, str(runs[0]["codebook_size"]), f"{runs[0]['bits_per_token']:.1f}", each("psnr_db", 2)]
        if several:
            error = math.sqrt(sum((x - mean) ** 2 for x in psnr) / (len(psnr) - 1) / len(psnr))
            cells += [f"{mean:.2f}", f"{error:.2f}"]
        cells += [each("usage", 2), each("perplexity", 0), each("ssim", 3)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
