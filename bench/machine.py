"""Which machine and which versions a measurement is of."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

from programs import PYTHON, ROOT

# What matters to the speed of matrix products.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16")
PACKAGES = ("torch", "torchvision", "vector-quantize-pytorch", "pillow", "webdataset", "numpy")
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"


def said(*command: str | Path) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def processor() -> dict:
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "model": fields.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
    }


def memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def available_gib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:"))


def describe() -> dict:
    packages = json.loads(said(PYTHON, "-c", VERSIONS, *PACKAGES))
    dirty = "-dirty" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "memory_gib": round(memory_gib(), 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "versions": {
            "pixtok": said("git", "rev-parse", "--short=12", "HEAD") + dirty,
            "rustc": said("rustc", "--version"),
            "python": said(PYTHON, "-c", "import platform; print(platform.python_version())"),
            **packages,
        },
    }


def in_words(machine: dict, threads: int) -> str:
    cpu, versions = machine["processor"], machine["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "rustc")
    return (
        f"{cpu['model']}, {cpu['cores']} cores ({' '.join(cpu['flags'])}), {machine['memory_gib']} GiB; {threads} threads; "
        f"load before {machine['load_before']}\n{names}, {versions['rustc']}"
    )
