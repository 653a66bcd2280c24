#!/usr/bin/env python3
"""What saving a checkpoint every 500 steps costs a training.

    scripts/bench_saving.py [configs/photos96-fsq.toml] [--steps 250] [--every 25] [--turns 5] [--device cpu] [--set KEY=VALUE]

Three trainings take turns: one that saves every few steps, one that saves only at its end, and one of a single step, which
has the same start, evaluation and last save. The first minus the second is the cost of the saves in between; the second minus
the third is the loop. The cost of one save over the time of 500 steps is the figure, and its bar is 1 %. A negative one says
that the cost is below the noise.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
# The interval that the bar is for.
INTERVAL = 500


def train(args: argparse.Namespace, run: pathlib.Path, steps: int, every: int) -> float:
    """The seconds of a whole training, which evaluates one image at its end."""
    sets = [f"train.steps={steps}", f"train.checkpoint_every={every}", f"train.eval_every={steps}", "eval.max_images=1"]
    command = [PIXTOK, "train", args.config, "--run", run, "--device", args.device]
    for setting in ["optimizer.schedule.warmup_steps=0", *args.set, *sets]:
        command += ["--set", setting]
    began = time.monotonic()
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit(f"pixtok train ended with status {process.returncode}: {process.stderr}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/photos96-fsq.toml", help="%(default)s")
    parser.add_argument("--steps", type=int, default=250, help="of each training (%(default)s)")
    parser.add_argument("--every", type=int, default=25, help="steps between the saves (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="%(default)s")
    parser.add_argument("--device", default="cpu", help="%(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes the config")
    args = parser.parse_args()
    # The save at the last step is in every training.
    saves = (args.steps - 1) // args.every
    if saves < 1:
        raise SystemExit(f"--every {args.every} saves nothing before step {args.steps}; lower it")
    costs, shares, per_step = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = pathlib.Path(temporary)
        for turn in range(args.turns):
            runs = [scratch / f"{name}-{turn}" for name in ("saving", "plain", "start")]
            saving = train(args, runs[0], args.steps, args.every)
            plain = train(args, runs[1], args.steps, args.steps)
            start = train(args, runs[2], 1, 1)
            step = (plain - start) / (args.steps - 1)
            per_step.append(step)
            costs.append((saving - plain) / saves)
            shares.append(costs[-1] / (INTERVAL * step))
            print(f"turn {turn + 1}: {saving:.2f} s saving, {plain:.2f} s without, {start:.2f} s for one step", flush=True)
            size = sum(path.stat().st_size for path in (runs[0] / f"step-{args.steps:06}").iterdir())
            for run in runs:
                shutil.rmtree(run)
    print("\n| checkpoint, MB | ms a step | ms a save | cost every 500 steps | smallest to largest |\n|---|---|---|---|---|")
    step, cost = (1000 * statistics.median(seconds) for seconds in (per_step, costs))
    share, least, most = (f"{100 * value:.2f} %" for value in (statistics.median(shares), min(shares), max(shares)))
    print(f"| {size / 1e6:.1f} | {step:.1f} | {cost:.1f} | {share} | {least} to {most} |")


if __name__ == "__main__":
    main()
