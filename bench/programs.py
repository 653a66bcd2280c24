"""The programs that are measured, as child processes: ours, its benches, and the peers in Python."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PIXTOK = ROOT / "target/release/pixtok"
PYTHON = ROOT / ".venv-readers/bin/python"
PEERS = Path(__file__).resolve().parent / "peers"

# Seconds between two looks at a log that another program writes.
POLL_SECS = 0.002

# What an arm measured, by name: numbers, and lists of them.
Figures = dict[str, Any]


class Failed(Exception):
    """A program did not do what was asked of it."""


class Child:
    """A process in a group of its own, of which nothing is left at the end of the `with`."""

    def __init__(self, command: list, env: dict[str, str] | None = None):
        self.command = list(map(str, command))
        # A file, not a pipe: nobody reads it while the program runs.
        self.errors = tempfile.TemporaryFile("w+")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=os.environ | (env or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        try:
            # Its workers too.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def secs(self) -> float:
        return time.monotonic() - self.began

    def runs(self) -> bool:
        return self.process.poll() is None

    def failed(self) -> Failed:
        """With what it said was the error; the last line if it did not name one."""
        self.errors.seek(0)
        said = [line.strip() for line in self.errors if line.strip()] or ["it said nothing"]
        error = next((line for line in said if line.lower().startswith("error")), said[-1])
        program = " ".join(Path(word).name for word in self.command[:2])
        return Failed(f"{program} stopped with {self.process.returncode}: {error}")

    def first_line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise self.failed()
        return line

    def finish(self) -> tuple[str, Figures]:
        """What it printed, and how long it took and how much memory it had at most (without the processes that it started)."""
        printed = self.process.stdout.read()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise self.failed()
        return printed, {"secs": self.secs(), "peak_mib": usage.ru_maxrss / 1024}


def finish_together(children: list[Child]) -> list[str]:
    """What each of several processes of one job printed. As soon as one fails, that is the error: the others would wait for it."""
    running = True
    while running:
        running = any(child.runs() for child in children)
        for child in children:
            if not child.runs() and child.process.returncode != 0:
                raise child.failed()
        time.sleep(POLL_SECS)
    return [child.process.stdout.read() for child in children]


def last_json(printed: str) -> dict:
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if not lines:
        raise Failed(f"no line of JSON in what was printed: {printed!r}")
    return json.loads(lines[-1])


def peer(script: str, *args, env: dict[str, str] | None = None) -> Figures:
    """Runs a program in `peers` to its end."""
    with Child([PYTHON, PEERS / script, *args], env) as child:
        printed, usage = child.finish()
        return usage | last_json(printed)


def bench(name: str, *args, cores: int | None = None) -> Figures:
    """Runs one of the crate's benches, built as everything else is; on the first so many cores, where it is said."""
    cargo = ["cargo", "bench", "--quiet", "--locked", "--profile", "release", "--bench", name, "--"]
    bound = [] if cores is None else ["taskset", "-c", f"0-{cores - 1}"]
    with Child([*bound, *cargo, *args]) as child:
        return last_json(child.finish()[0])


def auto_precision() -> str:
    """What `train.precision = "auto"` means here, by `pixtok doctor`: bf16 or fp32."""
    with Child([PIXTOK, "doctor", "--device", "cpu"]) as child:
        printed, _ = child.finish()
    found = re.search(r'"auto" means (\w+) here', printed)
    if not found:
        raise Failed(f"`pixtok doctor` printed no meaning for auto; its output: {printed}")
    return found[1]


def train_command(config: str | Path, run: Path, threads: int, settings: list[str]) -> list:
    chosen = [word for setting in settings for word in ("--set", setting)]
    return [PIXTOK, "train", config, "--run", run, "--device", "cpu", "--threads", threads, *chosen]


def rows_of(run: Path) -> list[dict]:
    """The whole lines of a run's log so far."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def watch(child: Child, run: Path, seen: Callable[[list[dict]], bool]) -> None:
    """Looks at the log until `seen` is content with its rows, or the program has ended."""
    size = -1
    while True:
        # Asked before the log is read: what it wrote last must not be missed.
        running = child.runs()
        now = log_bytes(run)
        if now != size:
            size = now
            if seen(rows_of(run)):
                return
        if not running:
            return
        time.sleep(POLL_SECS)


def log_bytes(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").stat().st_size
    except FileNotFoundError:
        return -1
