#!/usr/bin/env python3
"""Kills an export at random moments and compares what it ends with, file by file, with an undisturbed one's.

    scripts/check_kills.py [--images 2000] [--kills 20] [--formats npy,…] [--seed 0]

Uses links to the embedded photographs and an untrained model. Every format; each is killed with SIGKILL so many times, run on
to its end, and compared byte for byte.
"""

import argparse
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
# A word that is no format: the error lists those that there are.
NO_FORMAT = "every"


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def formats() -> str:
    """Every format that the program knows, with commas between."""
    asked = subprocess.run([PIXTOK, "encode", "--format", NO_FORMAT], capture_output=True, text=True)
    return re.search(r"choose from (.+)", asked.stderr)[1].replace(", ", ",")


def check(name: str, command: list, scratch: pathlib.Path, wanted: int, draw: random.Random) -> None:
    """One format: an undisturbed export, one that is killed, and whether they end alike."""
    began = time.monotonic()
    subprocess.run([*command, "--out", scratch / f"{name}-whole"], check=True, capture_output=True)
    seconds, began = time.monotonic() - began, time.monotonic()
    subprocess.run([*command, "--out", scratch / f"{name}-whole"], check=True, capture_output=True)
    # What a call takes before its first image, and what work there is for each kill.
    start = time.monotonic() - began
    work = (seconds - start) / wanted
    kills, moments = 0, set()
    killed = scratch / f"{name}-killed"
    while kills < wanted:
        process = subprocess.Popen([*command, "--out", killed], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            # Short enough that work is left for the kills to come.
            process.wait(timeout=draw.uniform(0.5 * start, start + 2.5 * work))
            if process.returncode != 0:
                raise SystemExit(f"{name}: status {process.returncode}: {process.stderr.read().decode()}")
            # Finished before its time: begin anew, since only kills count.
            for path in sorted(killed.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            manifest = killed / "manifest.jsonl"
            moments.add(len(manifest.read_bytes().splitlines()) if manifest.exists() else 0)
    subprocess.run([*command, "--out", killed], check=True, capture_output=True)
    expected, found = contents(scratch / f"{name}-whole"), contents(killed)
    different = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    if different:
        raise SystemExit(f"{name}: {len(different)} files differ after {kills} kills: {different[:5]}")
    print(
        f"{name}: {len(expected)} files equal after {kills} kills with {sorted(moments)} shards done"
        f" (undisturbed {seconds:.1f} s)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="%(default)s")
    parser.add_argument("--kills", type=int, default=20, help="%(default)s")
    parser.add_argument("--formats", help="names with commas between, or else every format")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    photographs = sorted((ROOT / "data/photos96/train").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        images = scratch / "images"
        images.mkdir()
        for i in range(args.images):
            (images / f"{i:06}.jpg").symlink_to(photographs[i % len(photographs)])
        # Files that cannot be used, at shard boundaries too.
        for i in (3, 99, 100, args.images - 1):
            (images / f"{i:06}.jpg").unlink(missing_ok=True)
            (images / f"{i:06}.jpg").write_bytes(b"no image")
        run = scratch / "run"
        train = [PIXTOK, "train", "configs/photos96-fsq.toml", "--run", run, "--threads", "1", "--set", "train.steps=1"]
        settings = ["optimizer.schedule.warmup_steps=0", "train.batch_size=2", "model.channels=16"]
        for setting in settings:
            train += ["--set", setting]
        subprocess.run(train, check=True, cwd=ROOT, capture_output=True)
        for name in (args.formats or formats()).split(","):
            command = [PIXTOK, "encode", run, "--data", images, "--format", name, "--threads", "1", "--shard-rows", "50"]
            check(name, command, scratch, args.kills, draw)


if __name__ == "__main__":
    main()
