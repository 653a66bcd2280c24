"""From the start of the program to its first finished step."""

from programs import PEERS, PYTHON, Child, Figures, train_command, watch
from rows.plan import Plan
from rows.steps import FSQ
from turns import Group, Kind, compare


def group(plan: Plan) -> Group:
    def ours(turn: int) -> Figures:
        """Until the step's row is in the log, a write after the step; then the program is stopped."""
        run = plan.folder("start", turn)
        with Child(train_command(FSQ, run, plan.threads, ["train.log_every=1", f"train.precision={plan.precision}"])) as child:
            watch(child, run, lambda rows: bool(rows))
            secs = child.secs()
            if not child.runs():
                raise child.failed()
            return {"secs": secs}

    def theirs(_: int) -> Figures:
        with Child([PYTHON, PEERS / "train.py", "--threads", plan.threads, "--precision", plan.precision]) as child:
            child.first_line()
            return {"secs": child.secs()}

    row = compare("start", "start of the program to its first step, PyTorch", "start", "torch-start", 5.0, "secs", "s", Kind.TIMES_LESS)
    return Group("start", {"start": ours, "torch-start": theirs}, [row])
