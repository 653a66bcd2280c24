#!/usr/bin/env python3
"""How fast files become batches, beside PyTorch (scripts/bench_loader_peer.py): a folder, tar shards, and a second epoch from the cache.

    scripts/bench_loader.py [--data ../shared/data/bench500] [--rounds 3] [--repeat 6]

JPEGs to centre crops of 256x256 (bicubic), batches of 32 as floats, two workers on both sides. Programs take turns; the figures are
medians over rounds of an epoch that is not the first. The cache's epochs are left as bytes, since only the loader differs. Needs the Python of `just test-python`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-readers/bin/python"
WORKERS, EPOCHS, SHARDS = 2, 3, 4


def speeds(command):
    out = subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])["images_per_sec"]


def pixtok(data, repeat, *more):
    bench = ["cargo", "bench", "--quiet", "--locked", "--profile", "dev", "--bench", "loader", "--"]
    return speeds([*bench, "--data", data, "--repeat", repeat, "--workers", WORKERS, "--epochs", EPOCHS, *more])


def pytorch(data, repeat):
    return speeds([PYTHON, ROOT / "scripts/bench_loader_peer.py", data, repeat, WORKERS, EPOCHS])


def shards(images, folder):
    files = sorted(images.rglob("*.jpg"))
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:04}.tar", "w") as tar:
            for i, file in enumerate(files[shard::SHARDS]):
                tar.add(file, arcname=f"{i:06}.jpg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data/bench500")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=6)
    args = parser.parse_args()
    later = lambda of: statistics.median(of[1:])
    with tempfile.TemporaryDirectory() as name:
        tars = pathlib.Path(name)
        shards(args.data, tars)
        rounds = {"folder": [], "tar shards": [], "second epoch from the cache": []}
        for _ in range(args.rounds):
            for kind, data in [("folder", args.data.resolve()), ("tar shards", tars)]:
                rounds[kind].append((later(pixtok(data, args.repeat)), later(pytorch(data, args.repeat))))
            cached = pixtok(args.data.resolve(), args.repeat, "--cache-gib", 2, "--bytes")
            rounds["second epoch from the cache"].append((later(cached), cached[0]))
    print("| what | images/s | beside | images/s | ratio |\n|---|---|---|---|---|")
    for kind, pairs in rounds.items():
        ours, theirs = (statistics.median(side) for side in zip(*pairs))
        ratio = statistics.median(a / b for a, b in pairs)
        other = "the first epoch" if "cache" in kind else "PyTorch"
        print(f"| {kind} | {ours:.0f} | {other} | {theirs:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
