#!/usr/bin/env python3
"""What a second rank is worth: two ranks of one thread beside one, ours and PyTorch's (`just bench-ranks`).

    bench/ranks.py [--turns 5] [--bind] [--quick]

The yardstick's step with FSQ (configs/photos96-fsq.toml), 32 images for each rank and step, so two ranks have as much to do as one.
PyTorch's two ranks are DistributedDataParallel over Gloo, in the same run. Prints a table like that of run.py: images a second of one
rank and of two, and what the second one brings, which should be at least what it brings PyTorch; and what hooks bring in PyTorch, in
place of the Reducer of DistributedDataParallel. The measurement is written to
target/bench-ranks.json. Do not use the machine meanwhile: it needs a core for each rank.

Without --bind a single rank also has the core that a second would have, and each program uses it as it can, for loading. With it each
rank has one core for everything, as launchers bind ranks to cores.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import machine
from programs import PEERS, PYTHON, ROOT, Child, Figures, auto_precision, finish_together, last_json, train_command
from rows.plan import Plan
from rows.steps import FSQ, KEEP, rate, theirs, timed
from run import FORMAT_VERSION, measure, progress, publish
from turns import Arm, Group, Kind, Measured, Row, Turn, compare

RANKS = 2
# Images of one rank in a step, as in the config.
BATCH = 32
STEPS, SKIP = 50, 10
AIM = 1.85
# Of the DataLoader: a process of its own beside each rank, or none. Which is better depends on the cores that are left.
LOADERS = {"torch": 1, "torch-inline": 0}
OUT = ROOT / "target/bench-ranks.json"


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun would set, for one rank on this machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def on_core(rank: int, bind: bool) -> Iterator[None]:
    """What starts in here may use only the core of this rank, if ranks are bound."""
    cores = os.sched_getaffinity(0)
    if bind:
        os.sched_setaffinity(0, {sorted(cores)[rank]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def printed_by_ranks(bind: bool, command: list, env: dict[str, str] = {}) -> list[str]:
    """Runs the same command as every rank, and returns what each printed."""
    port = free_port()
    children = []
    with contextlib.ExitStack() as stack:
        for rank in range(RANKS):
            with on_core(rank, bind):
                children.append(stack.enter_context(Child(command, env | environment(rank, port))))
        return finish_together(children)


def ours(plan: Plan, ranks: int, bind: bool) -> Arm:
    settings = [*timed(plan, STEPS), f"train.batch_size={ranks * BATCH}"]

    def arm(turn: int) -> Figures:
        run = plan.folder(f"ranks-{ranks}", turn)
        command = train_command(FSQ, run, plan.threads, settings)
        if ranks == 1:
            with on_core(0, bind), Child(command) as child:
                child.finish()
        else:
            printed_by_ranks(bind, command)
        return {"images_per_sec": rate(run)}

    return arm


def torch_rank(plan: Plan, workers: int, bind: bool) -> Arm:
    train = theirs(plan, STEPS, "--batch", BATCH, "--workers", workers, skip=SKIP)

    def arm(turn: int) -> Figures:
        with on_core(0, bind):
            return train(turn)

    return arm


def torch_ranks(plan: Plan, workers: int, bind: bool, exchange: str = "reducer") -> Arm:
    steps = plan.steps(STEPS)
    counted = ["--precision", plan.precision, "--steps", steps, "--skip", min(SKIP, steps - 1), "--threads", plan.threads]
    command = [PYTHON, PEERS / "ranks.py", *counted, "--batch", BATCH, "--workers", workers]
    # All ranks wait for each other in every step.
    env = KEEP | {"EXCHANGE": exchange}
    return lambda _: {"images_per_sec": statistics.mean(last_json(each)["images_per_sec"] for each in printed_by_ranks(bind, command, env))}


def gain(turn: Turn, name: str) -> float:
    return turn[f"{name}-{RANKS}"]["images_per_sec"] / turn[f"{name}-1"]["images_per_sec"]


def group(plan: Plan, bind: bool) -> Group:
    arms = {"ours-1": ours(plan, 1, bind), f"ours-{RANKS}": ours(plan, RANKS, bind)}
    for name, workers in LOADERS.items():
        arms[f"{name}-1"] = torch_rank(plan, workers, bind)
        arms[f"{name}-{RANKS}"] = torch_ranks(plan, workers, bind)
    arms["torch-hooks"] = torch_ranks(plan, LOADERS["torch-inline"], bind, "hooks")

    def gains(turns: list[Turn]) -> list[tuple[float, float]]:
        best = max(LOADERS, key=lambda name: statistics.median(gain(turn, name) for turn in turns))
        return [(gain(turn, "ours"), gain(turn, best)) for turn in turns]

    def of(ranks: int, what: str) -> Row:
        others = [f"{name}-{ranks}" for name in LOADERS]
        return compare(f"ranks-{ranks}", f"{what}, the better of two DataLoaders", f"ours-{ranks}", others, None)

    return Group(
        "ranks",
        arms,
        [
            of(1, "FSQ step, one rank of one thread, eager PyTorch"),
            of(RANKS, "FSQ step, two ranks of one thread each, PyTorch's DistributedDataParallel over Gloo"),
            compare(
                "ranks-hooks",
                "two ranks of PyTorch, gradients exchanged by hooks, by c10d's Reducer",
                "torch-hooks",
                [f"torch-inline-{RANKS}"],
                None,
            ),
            Row(
                "ranks",
                f"two ranks of one thread against one (aim {AIM}), the same of PyTorch, with the DataLoader that gains more",
                "times",
                Kind.MORE,
                1.0,
                list(arms),
                gains,
            ),
        ],
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="how often each program has its turn (%(default)s)")
    parser.add_argument("--bind", action="store_true", help="each rank has one core for everything")
    parser.add_argument("--quick", action="store_true", help="one turn of little work: whether everything runs")
    parser.add_argument("--out", type=Path, default=OUT, help="where the measurement is written (%(default)s)")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.turns < 1:
        raise SystemExit("--turns must be at least 1")
    if len(os.sched_getaffinity(0)) < RANKS:
        raise SystemExit(f"{RANKS} ranks need {RANKS} cores; this process may use {len(os.sched_getaffinity(0))}")
    # SIGTERM is as Ctrl-C: no program is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="pixtok-bench-") as scratch:
        plan = Plan(ROOT, Path(scratch), 1, auto_precision(), args.quick)
        described = {"format_version": FORMAT_VERSION, "machine": machine.describe(), "threads": 1, "precision": plan.precision, "bind": args.bind, "quick": args.quick}
        ranks, measured = group(plan, args.bind), Measured()
        try:
            measure(ranks, 1 if args.quick else args.turns, measured)
        except KeyboardInterrupt:
            progress("interrupted; what there is:")
            described["interrupted"] = True
    rows = [measured.result(row) for row in ranks.rows]
    return publish(described | {"rows": rows, "turns": {"ranks": measured.turns}}, args.out)


if __name__ == "__main__":
    sys.exit(main())
