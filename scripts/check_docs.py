#!/usr/bin/env python3
"""Runs every command of the pages for newcomers on a few photographs and tiny settings.

    just check-docs

A page's blocks run from its top in one folder: `sh` line by line, `python` as a program, and a `toml` block is
written to the file that its first line names. The pages share the folder, in the order of a newcomer's day.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["train", "language-model", "comparing"]
# Settings that make a training take seconds. The network and the images stay as the page says.
TINY = ["train.steps=4", "train.eval_every=2", "train.checkpoint_every=2", "train.batch_size=4", "train.precision='fp32'"]
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def tiny(words: list[str]) -> list[str]:
    """A command of a page, with settings that make its trainings short."""
    trains = words[:2] == ["pixtok", "train"] and "--resume" not in words
    if trains or (words[:2] == ["pixtok", "compare"] and "sweep.toml" in words):
        return [*words, *(word for setting in TINY for word in ("--set", setting))]
    # A longer run, of which a few steps are enough too.
    return [re.sub(r"^train\.steps=\d+$", "train.steps=6", word) for word in words]


def run(words: list[str], folder: Path, env: dict[str, str], shown: str) -> None:
    began = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed with {done.returncode}: {shown}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    print(f"{time.monotonic() - began:6.1f} s  {shown}", flush=True)


def check(page: str, folder: Path, env: dict[str, str]) -> int:
    """Runs the blocks of a page and returns their number. Its Python blocks are one program that grows."""
    text = (ROOT / f"docs/{page}.md").read_text()
    program = ""
    blocks = BLOCK.findall(text)
    for kind, content in blocks:
        if kind == "toml":
            name = re.match(r"# (\S+\.toml)\n", content)
            if not name:
                raise SystemExit(f"docs/{page}.md: a toml block does not begin with the name of its file")
            (folder / name[1]).write_text(content)
        elif kind == "python":
            program += content.replace("PIXTOK/python", str(ROOT / "python"))
            run([sys.executable, "-c", program], folder, env, f"python: {content.strip().splitlines()[-1]}")
        else:
            for line in content.strip().splitlines():
                run(tiny(shlex.split(line)), folder, env, line)
    return len(blocks)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pixtok-docs-") as scratch:
        folder = Path(scratch)
        programs = folder / ".programs"
        programs.mkdir()
        (programs / "pixtok").symlink_to(ROOT / "target/release/pixtok")
        env = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            # Nothing is looked up, and what `datasets` keeps is removed with the rest.
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": f"{scratch}/hugging-face",
        }
        for name, part in [("pictures", "train"), ("val", "val")]:
            shutil.copytree(ROOT / "data/photos96" / part, folder / name)
        shutil.copy(next((folder / "val").rglob("*.jpg")), folder / "photo.jpg")
        for page in PAGES:
            if not check(page, folder, env):
                raise SystemExit(f"docs/{page}.md has no blocks to run")


if __name__ == "__main__":
    main()
