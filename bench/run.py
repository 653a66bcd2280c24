#!/usr/bin/env python3
"""How fast pixtok is beside PyTorch: every figure is a ratio to a program in `peers`, measured in turn with it (`just bench`).

    bench/run.py [--data ../shared/data/bench500] [--turns 5] [--only step-fsq,loader] [--quick]
    bench/run.py --full

Prints a table: medians over the turns, the median ratio and the smallest and largest, and the bar that the ratio is held to.
The training steps are those of the embedded photographs; the default pictures for the loaders lie beside the repository where it
is developed, so give any folder of JPEGs. A complete measurement is written to bench/results.json, a partial one to
target/bench.json. Do not use the machine meanwhile. Ctrl-C stops and shows the results so far.
"""

import argparse
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machine
from programs import ROOT, Failed, auto_precision
from rows import busy, loading, search, start, steps, whole
from rows.plan import Plan
from turns import Group, Measured

FORMAT_VERSION = 1
PUBLISHED = ROOT / "bench/results.json"
PARTIAL = ROOT / "target/bench.json"


def all_groups(plan: Plan, full: bool) -> list[Group]:
    groups = [*steps.groups(plan), busy.group(plan), start.group(plan), search.group(plan), loading.group(plan)]
    return groups + (whole.groups(plan) if full else [])


def chosen(groups: list[Group], only: list[str]) -> list[Group]:
    """The rows asked for, and no arm that none of them needs."""
    names = [row.name for group in groups for row in group.rows]
    if unknown := set(only) - set(names):
        raise SystemExit(f"no row is called {', '.join(sorted(unknown))}; the rows are: {', '.join(names)}")
    kept = []
    for group in groups:
        rows = [row for row in group.rows if not only or row.name in only]
        needed = {arm for row in rows for arm in row.arms}
        arms = {name: arm for name, arm in group.arms.items() if name in needed}
        if rows:
            kept.append(Group(group.name, arms, rows, group.turns))
    return kept


def measure(group: Group, turns: int, measured: Measured) -> None:
    """Every arm, `turns` times in turn. One that fails is left out from then on, and the others go on."""
    for number in range(turns):
        turn = {}
        measured.turns.append(turn)
        for name, arm in group.arms.items():
            if name in measured.failures:
                continue
            began = time.monotonic()
            try:
                turn[name] = arm(number)
            # Whatever goes wrong in one arm, the other rows are wanted.
            except Exception as error:  # noqa: BLE001
                measured.failures[name] = str(error) if isinstance(error, Failed) else repr(error)
                progress(f"{group.name}: {name} failed: {measured.failures[name]}")
                continue
            progress(f"{group.name}, turn {number + 1} of {turns}: {name}, {time.monotonic() - began:.0f} s")


def progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def figure(values: list[float], unit: str) -> str:
    value = statistics.median(values)
    if math.isinf(value):
        return "never"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if unit == "times":
        return f"{value:.3g} times"
    digits = 3 if abs(value) < 1 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f} {unit}"


def line(result: dict) -> str:
    if "failed" in result:
        return f"| {result['name']} | {result['what']} | failed: {result['failed']} | | | | | |"
    bar, kind = result["bar"], result["kind"]
    wanted = "" if bar is None else f"at most {bar:g}" if kind == "at most" else f"{bar:g}"
    holds = {None: "", True: "yes", False: "no"}[result["holds"]]
    cells = [
        result["name"],
        result["what"],
        figure(result["ours"], result["unit"]),
        figure(result["theirs"], result["unit"]),
        f"{result['ratio']:.3g}",
        f"{result['ratio_min']:.3g} to {result['ratio_max']:.3g}",
        wanted,
        holds,
    ]
    return f"| {' | '.join(cells)} |"


def without_infinity(value):
    """JSON has none: what was never reached is null."""
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def save(path: Path, document: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(without_infinity(document), indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def arguments() -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/bench500", help="a folder of JPEGs (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="how often each program has its turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=cores, help="of libtorch on both sides, and workers of a DataLoader (%(default)s)")
    parser.add_argument("--only", default="", metavar="ROWS", help="only these rows, separated by commas")
    parser.add_argument("--quick", action="store_true", help="one turn of little work: whether everything runs")
    parser.add_argument("--full", action="store_true", help="whole runs too: half an hour more")
    parser.add_argument("--out", type=Path, help="where the measurement is written")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.turns < 1:
        raise SystemExit("--turns must be at least 1")
    # SIGTERM is as Ctrl-C: no program is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What our benches take no flag for.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    out = args.out or (PARTIAL if only or args.quick else PUBLISHED)
    with tempfile.TemporaryDirectory(prefix="pixtok-bench-") as scratch:
        plan = Plan(args.data.resolve(), Path(scratch), args.threads, auto_precision(), args.quick)
        groups = chosen(all_groups(plan, args.full), only)
        if any(group.name == "loading" for group in groups) and not loading.photographs(plan.data):
            raise SystemExit(f"no JPEG in {args.data}; give a folder of photographs with --data")
        document = {"format_version": FORMAT_VERSION, "machine": machine.describe(), "threads": args.threads, "precision": plan.precision, "quick": args.quick}
        measured = {group.name: Measured() for group in groups}
        try:
            for group in groups:
                measure(group, 1 if args.quick else group.turns or args.turns, measured[group.name])
        except KeyboardInterrupt:
            progress("interrupted; what there is:")
            document["interrupted"] = True
            out = args.out or PARTIAL
    document["rows"] = [measured[group.name].result(row) for group in groups for row in group.rows]
    document["turns"] = {name: group.turns for name, group in measured.items()}
    return publish(document, out)


def publish(document: dict, out: Path) -> int:
    """Prints the table, writes the measurement, and returns the exit code."""
    print(machine.in_words(document["machine"], document["threads"]))
    print("\n| row | what, beside what | pixtok | beside | ratio | smallest to largest | bar | holds |")
    print(f"|{'---|' * 8}")
    print("\n".join(map(line, document["rows"])))
    save(out, document)
    progress(f"written to {out}")
    if "interrupted" in document:
        return 130
    return int(any("failed" in row or "failed_later" in row for row in document["rows"]))


if __name__ == "__main__":
    sys.exit(main())
