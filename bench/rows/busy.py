"""Training beside other busy programs: with pixtok's own way of waiting, and with libgomp's."""

import contextlib
import os

from programs import PYTHON, Child, Figures
from rows.plan import Plan
from rows.steps import QUICK_FSQ, ours
from turns import Arm, Group, compare

# What libgomp does by default, said aloud: pixtok leaves the threads of a user who says it alone.
AS_LIBGOMP = {"GOMP_SPINCOUNT": "300000"}
STEPS = 120


def beside_busy_programs(plan: Plan, arm: Arm) -> Arm:
    """One processor less than there are threads: with two threads on two processors, one busy program."""

    def both(turn: int) -> Figures:
        with contextlib.ExitStack() as stack:
            for _ in range(max(1, len(os.sched_getaffinity(0)) - plan.threads + 1)):
                stack.enter_context(Child([PYTHON, "-c", "while True: pass"]))
            return arm(turn)

    return both


def group(plan: Plan) -> Group:
    idle = {
        "idle": ours(plan, "idle", QUICK_FSQ, STEPS),
        "idle-libgomp": ours(plan, "idle-libgomp", QUICK_FSQ, STEPS, env=AS_LIBGOMP),
    }
    busy = {
        "busy": beside_busy_programs(plan, ours(plan, "busy", QUICK_FSQ, STEPS)),
        "busy-libgomp": beside_busy_programs(plan, ours(plan, "busy-libgomp", QUICK_FSQ, STEPS, env=AS_LIBGOMP)),
    }
    return Group(
        "busy",
        idle | busy,
        [
            compare("idle", "quick start's step on an idle machine, threads waiting as libgomp's do", "idle", "idle-libgomp", 0.98),
            compare("busy", "the same beside a busy program", "busy", "busy-libgomp", 1.4),
        ],
    )
