"""Whole runs: how long pixtok takes to reach what PyTorch reaches at the end of the same recipe (`just bench-full`)."""

import statistics

from programs import Child, Figures, peer, train_command, watch
from rows.plan import Plan
from rows.steps import FSQ, KEEP, QUICK_FSQ, QUICK_VQ, VQ
from turns import Arm, Group, Kind, Row, Turn, compare

# A turn has the seed of its number.
TURNS = 3
EVAL_EVERY = 25
CONFIGS = {"fsq": FSQ, "vq": VQ}
QUICK = {"fsq": QUICK_FSQ, "vq": QUICK_VQ}
BARS = {"fsq": 1.1, "vq": 1.6}
# Steps and batch size.
RECIPES = {"yardstick": (600, 32), "quickstart": (800, 16)}


def whole(plan: Plan, quantizer: str) -> Arm:
    """A whole run as it is, with its evaluations and checkpoints."""

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
        with Child(train_command(QUICK[quantizer], run, plan.threads, every)) as child:

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
    ours, theirs = f"quality-{quantizer}", f"torch-quality-{quantizer}"

    def pairs(turns: list[Turn]) -> list[tuple[float, float]]:
        target = statistics.mean(turn[theirs]["psnr_db"] for turn in turns)
        return [(reached(turn[ours], target), turn[theirs]["secs"]) for turn in turns]

    what = f"{quantizer.upper()}: time to the mean psnr_db that PyTorch's runs of the same recipe end with, its whole run"
    return Row(f"quality-{quantizer}", what, "s", Kind.AT_MOST, 0.5, [ours, theirs], pairs)


def theirs(plan: Plan, quantizer: str, recipe: str) -> Arm:
    def arm(turn: int) -> Figures:
        count, batch = RECIPES[recipe]
        steps = plan.steps(count)
        args = ["--quantizer", quantizer, "--recipe", recipe, "--steps", steps, "--schedule-steps", steps, "--batch", batch]
        common = ["--seed", turn, "--threads", plan.threads, "--precision", plan.precision, "--evaluate"]
        return peer("train.py", *args, *common, env=KEEP)

    return arm


def group(plan: Plan, quantizer: str) -> Group:
    what = f"{quantizer.upper()}: the yardstick's run, wall time, eager {plan.precision} PyTorch"
    arms = {
        f"whole-{quantizer}": whole(plan, quantizer),
        f"torch-whole-{quantizer}": theirs(plan, quantizer, "yardstick"),
        f"quality-{quantizer}": quality(plan, quantizer),
        f"torch-quality-{quantizer}": theirs(plan, quantizer, "quickstart"),
    }
    name, peers = list(arms)[:2]
    row = compare(name, what, name, peers, BARS[quantizer], "secs", "s", Kind.TIMES_LESS)
    return Group(name, arms, [row, time_to_quality(quantizer)], TURNS)


def groups(plan: Plan) -> list[Group]:
    return [group(plan, quantizer) for quantizer in CONFIGS]
