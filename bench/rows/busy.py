"""Training beside other busy programs: with pixtok's own way of waiting, and with libgomp's."""

import contextlib
import os

from programs import PYTHON, Child, Figures
from rows.plan import Plan
from rows.steps import QUICK_FSQ, ours
from turns import Arm, Group, compare

# libgomp's default, set explicitly: pixtok does not limit spinning when the user has set it.
AS_LIBGOMP = {"GOMP_SPINCOUNT": "300000"}
STEPS = 120
# libgomp's threads may both be put on the processor that the busy program leaves: a few images a second.
BUSY_STEPS = 40


def beside_busy_programs(plan: Plan, arm: Arm) -> Arm:
    """Adds busy programs until one processor fewer is free than there are threads: one program for two threads on two processors."""

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
        "busy": beside_busy_programs(plan, ours(plan, "busy", QUICK_FSQ, BUSY_STEPS)),
        "busy-libgomp": beside_busy_programs(plan, ours(plan, "busy-libgomp", QUICK_FSQ, BUSY_STEPS, env=AS_LIBGOMP)),
    }
    return Group(
        "busy",
        idle | busy,
        [
            compare("idle", "quick-start step on an idle machine, against libgomp's default spinning", "idle", "idle-libgomp", 0.98),
            compare("busy", "quick-start step beside a busy program, against libgomp's default spinning", "busy", "busy-libgomp", 1.4),
        ],
    )
