#!/usr/bin/env python3
"""How fast images become tokens, beside a PyTorch script that does the same (scripts/bench_encode_peer.py).

    scripts/bench_encode.py [--data ../shared/data/bench500] [--rounds 3] [--repeat 4]

The same images, the same weights, 256x256 pixels, fp32, two cores: a network so small that loading matters, a middling one, and
the yardstick's, which dominates. Programs take turns; the figures are medians. The whole of `pixtok encode` is counted, its start
included; of the script, what comes after its imports. The default images lie beside the repository where it is developed;
give any folder of photographs. Needs the Python of `just test-python`.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
PYTHON = ROOT / ".venv-readers/bin/python"
SIZE, BATCH, WORKERS = 256, 32, 2

# Settings over the yardstick's, by name.
NETWORKS = {
    "small": ["model.channels=4", "model.multipliers=[1,2,4]", "model.strides=[8,2]"],
    "middling": ["model.channels=16", "model.multipliers=[1,1,1]", "model.strides=[8,2]"],
    "yardstick": [],
}


def trained(scratch: pathlib.Path, name: str, settings: list[str]) -> pathlib.Path:
    run = scratch / name
    # The filter is that of the other script.
    steps = ['data.filter="bicubic"', "train.steps=1", "optimizer.schedule.warmup_steps=0", "train.batch_size=2"]
    command = [PIXTOK, "train", "configs/photos96-fsq.toml", "--run", run, "--device", "cpu"]
    for setting in [*settings, *steps]:
        command += ["--set", setting]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    subprocess.run([PIXTOK, "export", run, "--out", scratch / f"{name}-model"], check=True, capture_output=True)
    return run


def ours(run: pathlib.Path, images: pathlib.Path, out: pathlib.Path) -> float:
    command = [PIXTOK, "encode", run, "--data", images, "--out", out, "--format", "npy", "--image-size", str(SIZE)]
    began = time.monotonic()
    subprocess.run([*command, "--batch-size", str(BATCH), "--device", "cpu"], check=True, capture_output=True)
    return time.monotonic() - began


def theirs(model: pathlib.Path, images: pathlib.Path, out: pathlib.Path) -> float:
    script = ROOT / "scripts/bench_encode_peer.py"
    command = [PYTHON, script, images, model / "encoder.pt", out, *map(str, (SIZE, BATCH, WORKERS))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "../shared/data/bench500", help="%(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    parser.add_argument("--repeat", type=int, default=4, help="passes over the images in one run (%(default)s)")
    args = parser.parse_args()
    photographs = sorted(path for path in args.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not photographs:
        raise SystemExit(f"no JPEG in {args.data}; give a folder of photographs with --data")
    print("| network | images | pixtok, images/s | PyTorch, images/s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        images = scratch / "images"
        images.mkdir()
        for i in range(args.repeat * len(photographs)):
            (images / f"{i:06}.jpg").symlink_to(photographs[i % len(photographs)].resolve())
        count = len(os.listdir(images))
        for name, settings in NETWORKS.items():
            run = trained(scratch, name, settings)
            pairs = []
            for turn in range(args.rounds):
                out = scratch / f"{name}-{turn}"
                pairs.append((ours(run, images, out), theirs(scratch / f"{name}-model", images, scratch / "t.npy")))
            mine, peer = (count / statistics.median(seconds) for seconds in zip(*pairs))
            ratio = statistics.median(b / a for a, b in pairs)
            print(f"| {name} | {count} | {mine:.1f} | {peer:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
