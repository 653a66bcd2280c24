#!/usr/bin/env python3
"""Counts the tokens that another batch size or thread count turns over, by rounding alone.

    scripts/check_flips.py RUN [RUN …]

Encodes the embedded training photographs with each run at several batch sizes and thread counts, and compares with batches of
32 on one thread. Needs numpy.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAYS = [(32, 1), (1, 1), (8, 1), (64, 1), (8, 2), (32, 2)]


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print("| run | batch size | threads | tokens | other | share |\n|---|---|---|---|---|---|")
    for run in map(pathlib.Path, sys.argv[1:]):
        first = None
        for batch, threads in WAYS:
            with tempfile.TemporaryDirectory() as scratch:
                out = pathlib.Path(scratch) / "tokens"
                command = [ROOT / "target/release/pixtok", "encode", run, "--data", ROOT / "data/photos96/train", "--out", out]
                # The photographs at their own size, as in training.
                command += ["--resize", "96", "--format", "npy", "--batch-size", str(batch), "--threads", str(threads)]
                subprocess.run(command, check=True, capture_output=True)
                tokens = np.load(out / "tokens.npy")
            if first is None:
                first = tokens
                continue
            other = int((tokens != first).sum())
            print(f"| {run.name} | {batch} | {threads} | {tokens.size} | {other} | {other / tokens.size:.1e} |", flush=True)


if __name__ == "__main__":
    main()
