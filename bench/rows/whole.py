"""Whole runs of 600 steps, and how long ours take to reach what PyTorch's reach at their end (`just bench-full`)."""

import statistics

from programs import Child, Figures, peer, train_command, watch
from rows.plan import Plan
from rows.steps import FSQ, KEEP, VQ
from turns import Arm, Group, Kind, Row, Turn, compare

# A turn has the seed of its number.
TURNS = 3
EVAL_EVERY = 25
CONFIGS = {"fsq": FSQ, "vq": VQ}
BARS = {"fsq": 1.1, "vq": 1.6}


def whole(plan: Plan, quantizer: str) -> Arm:
    """The quick-start run as it is, with its three evaluations and checkpoints."""

    def arm(turn: int) -> Figures:
        run = plan.folder(f"whole-{quantizer}", turn)
        with Child(train_command(CONFIGS[quantizer], run, plan.threads, [f"seed={turn}", *settings(plan)])) as child:
            return child.finish()[1]

    return arm


def quality(plan: Plan, quantizer: str) -> Arm:
    """What each evaluation gave, and how long after the program's start its row was there."""

    def arm(turn: int) -> Figures:
        run = plan.folder(f"quality-{quantizer}", turn)
        found: dict[int, tuple[float, float]] = {}
        every = [f"seed={turn}", f"train.eval_every={EVAL_EVERY}", *settings(plan)]
        with Child(train_command(plan.quality[quantizer], run, plan.threads, every)) as child:

            def seen(rows: list[dict]) -> bool:
                for row in rows:
                    if "val/psnr_db" in row:
                        found.setdefault(row["step"], (child.secs(), row["val/psnr_db"]))
                return False

            watch(child, run, seen)
            if child.process.returncode != 0:
                raise child.failed()
        return {"evaluations": list(found.values())}

    return arm


def settings(plan: Plan) -> list[str]:
    precision = f"train.precision={plan.precision}"
    return [precision, "train.steps=60"] if plan.quick else [precision]


def reached(figures: Figures, target: float) -> float:
    """Seconds until the target; infinity when it was not reached."""
    return min((secs for secs, psnr_db in figures["evaluations"] if psnr_db >= target), default=float("inf"))


def time_to_quality(quantizer: str) -> Row:
    ours, theirs = f"quality-{quantizer}", f"torch-whole-{quantizer}"

    def pairs(turns: list[Turn]) -> list[tuple[float, float]]:
        target = statistics.mean(turn[theirs]["psnr_db"] for turn in turns)
        return [(reached(turn[ours], target), turn[theirs]["secs"]) for turn in turns]

    what = f"{quantizer.upper()}: time to the mean psnr_db that PyTorch's runs end with, its whole run"
    return Row(f"quality-{quantizer}", what, "s", Kind.AT_MOST, 0.5, [ours, theirs], pairs)


def group(plan: Plan, quantizer: str) -> Group:
    def theirs(turn: int) -> Figures:
        steps = plan.steps(600)
        args = ["--quantizer", quantizer, "--steps", steps, "--schedule-steps", steps, "--seed", turn, "--threads", plan.threads, "--precision", plan.precision]
        return peer("train.py", *args, "--evaluate", env=KEEP)

    what = f"{quantizer.upper()}: the quick-start run, wall time, eager {plan.precision} PyTorch"
    names = [f"whole-{quantizer}", f"torch-whole-{quantizer}", f"quality-{quantizer}"]
    arms = [whole(plan, quantizer), theirs, quality(plan, quantizer)]
    row = compare(names[0], what, names[0], names[1], BARS[quantizer], "secs", "s", Kind.TIMES_LESS)
    return Group(names[0], dict(zip(names, arms)), [row, time_to_quality(quantizer)], TURNS)


def groups(plan: Plan) -> list[Group]:
    return [group(plan, quantizer) for quantizer in CONFIGS]
