"""Published weights: read without running code from the file, found wherever they are in a checkpoint, and written as
safetensors. Needs torch 2.6 or newer, and safetensors.
"""

import _compat_pickle
import os
import pickletools
import re
import sys
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import sniff

try:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise SystemExit(f"{error}: pip install torch safetensors, or use .venv-readers/bin/python after `just test-python`") from None

if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < (2, 6):
    # Before 2.6 a file could run code despite weights_only=True (CVE-2025-32434).
    raise SystemExit(f"torch is {torch.__version__}, which reads untrusted files safely from 2.6 on: pip install --upgrade torch")

# What older versions of torch.save wrote first, before they wrote zip archives: a pickled magic
# number.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# Pickles before the tensors in such a file: magic number, protocol, system, saved object.
LEGACY_PICKLES = 4
# Names that DDP, torch.compile and FSDP insert before or between a network's own.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Names of averaged weights.
AVERAGED = re.compile(r"(^|_)ema(_|$)", re.IGNORECASE)
LITEMA = "model_ema."
# Classes and functions that tensors are made of. No others are ever loaded.
OF_TENSORS = re.compile(
    r"torch\.(_utils\._rebuild_)?\w+|torch\.(_tensor|storage|serialization|nn\.parameter|cuda)\.\w+"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|bytearray|complex)"
)
# The most names that a message lists.
FEW = 3


class Unfit(Exception):
    """The file is not the published one."""


class Mapped:
    """Stands in for a class named in a file, which is never loaded. Objects that the file makes of it are dicts."""

    def __new__(cls, *_args):
        return OrderedDict()


class Listed:
    """Stands in for a kind of list."""

    def __new__(cls, *_args):
        return []


class Opaque:
    """Stands in for a class that keeps its state in another way."""

    def __init__(self, *_args):
        pass

    def __setstate__(self, _state):
        pass


STAND_INS = {"collections.deque": Listed, "functools.partial": Opaque}


def stand_in(name: str) -> type:
    return STAND_INS.get(name, Opaque if name.startswith("numpy.") else Mapped)


def read(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors of a file by dotted name, without the names of wrappers, and notes on what was not read."""
    try:
        kind = sniff.sniff_file(path)
    except IsADirectoryError:
        raise Unfit(f"{path} is a folder; name the file in it") from None
    except OSError as error:
        raise Unfit(f"cannot read {path}: {error.strerror}; check the path") from None
    damaged = Unfit(f"{path} is {kind} that is cut short or damaged; get it again")
    if kind == sniff.SAFETENSORS:
        try:
            return unwrapped(path, load_file(path).items()), []
        except (SafetensorError, OSError, ValueError):
            raise damaged from None
    try:
        classes = classes_of(path, kind)
    except Unfit:
        raise
    except Exception:
        # A damaged file can raise any error in zipfile and pickletools.
        raise damaged from None
    # The most telling names first: classes of other packages, then Python's own.
    foreign = [name for name in classes if not OF_TENSORS.fullmatch(name)]
    foreign.sort(key=lambda name: name.split(".")[0] in sys.stdlib_module_names)
    try:
        stand_ins = torch.serialization.safe_globals([(stand_in(name), name) for name in classes])
        with warnings.catch_warnings(action="ignore"), stand_ins:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # A damaged file can raise any error. PyTorch's message would advise to run the file's code.
        if not foreign:
            raise damaged from None
        why = f"{path} is damaged, or holds objects that cannot be passed over ({some(foreign)})"
        raise Unfit(f"{why}; get it again, or its tensors alone") from None
    tensors = unwrapped(path, named(found))
    if not tensors:
        objects = f", but objects ({some(foreign)})" if foreign else f", but a value of type {type(found).__name__}"
        raise Unfit(f"{path} holds no tensors by name{objects}; save the network's `state_dict()`")
    return tensors, [f"objects left unread: {some(foreign)}"] if foreign else []


def classes_of(path: Path, kind: str) -> list[str]:
    """The classes and functions that a file of torch.save names, in order. Refuses any other file."""
    remedy = "" if kind == sniff.POINTER else "; give the published file"
    expected = Unfit(f"{path} is {kind}, and weights that PyTorch saved are expected{remedy}")
    if kind in (sniff.TORCH_ZIP, sniff.ZIP):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            inside = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if any(name.endswith("/constants.pkl") for name in names):
                raise Unfit(f"{path} is a TorchScript program, and a checkpoint is expected; give the published file")
            if not inside:
                raise expected
            with archive.open(inside[0]) as file:
                return sorted(classes_of_pickle(path, file))
    with open(path, "rb") as file:
        if kind != sniff.PICKLE or file.read(len(LEGACY)) != LEGACY:
            raise expected
        file.seek(0)
        return sorted({name for _ in range(LEGACY_PICKLES) for name in classes_of_pickle(path, file)})


def classes_of_pickle(path: Path, file: BinaryIO) -> set[str]:
    """The same for the pickle at the file's position, which moves to the pickle's end."""
    names = set()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "PROTO" and argument > 3:
            raise Unfit(f"{path} is of pickle protocol {argument}, which cannot be read without running it; get it as torch.save writes it")
        if opcode.name == "GLOBAL":
            module, name = argument.split(" ", 1)
            # Protocol 2 uses the names of Python 2.
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            names.add(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}")
    return names


def named(found: object, before: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested dicts, by their keys joined with dots."""
    if isinstance(found, torch.Tensor):
        yield before.removesuffix("."), found
    elif isinstance(found, Mapping) and id(found) not in seen:
        for key, value in found.items():
            if isinstance(key, str):
                yield from named(value, f"{before}{key}.", seen | {id(found)})


def unwrapped(path: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The same tensors by name, without the names of wrappers."""
    found = {}
    for name, tensor in tensors:
        own = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if own in found:
            raise Unfit(f"{path} has two tensors {own!r}, one of them perhaps under a wrapper's name; keep one of them")
        found[own] = tensor
    return found


def network(path: Path, tensors: dict[str, torch.Tensor], anchor: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The network in `tensors` that has a tensor called `anchor`, by names without its prefix, and notes on the others.

    If there are several, averaged weights come first. A taming transformer's tokenizer is its first stage, not the one for the
    condition.
    """
    heads = [name.removesuffix(anchor) for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not heads:
        raise Unfit(f"{path} has no tensor {anchor!r}, but {some(tensors)}; give the published file that `--help` names")
    averaged = [head for head in heads if any(AVERAGED.search(part) for part in head.split("."))]
    chosen = averaged or heads
    chosen = [head for head in chosen if "cond_stage_model" not in head.split(".")] or chosen
    if len(chosen) > 1:
        raise Unfit(f"{path} holds several networks ({some(head.removesuffix('.') or anchor for head in chosen)}); save the one that you mean alone")
    [head] = chosen
    own, others = {}, []
    for name, tensor in tensors.items():
        # A name belongs to the network with the longest matching prefix.
        if head == max((other for other in heads if name.startswith(other)), key=len, default=None):
            own[name.removeprefix(head)] = tensor
        else:
            # Leaves out the containers that hold both networks.
            shared = os.path.commonprefix([name.split("."), head.split(".")])
            others.append(name.removeprefix("".join(f"{part}." for part in shared)))
    notes = [f"taken: {head.removesuffix('.') or 'what is under no name'}"] if len(heads) > 1 else []
    # latent-diffusion's LitEma keeps averages beside the network, under the parameters' names
    # without dots.
    averages = {name: own[key] for name in own if (key := f"{LITEMA}{name.replace('.', '')}") in own}
    if averages:
        own = {name: tensor for name, tensor in own.items() if not name.startswith(LITEMA)}
        notes.append(f"taken: the averages in {LITEMA.removesuffix('.')}, of {len(averages)} of {len(own)} tensors")
    return own | averages, notes + left_out(others)


def left_out(names: Iterable[str]) -> list[str]:
    """How many tensors of which parts are not taken, in words; nothing if there are none."""
    parts = Counter(name.split(".")[0] for name in names)
    return ["tensors left out: " + ", ".join(f"{count} of {part}" for part, count in sorted(parts.items()))] if parts else []


def floats(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies in float32, each with its own storage."""
    copies = {}
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
        if not (plain and tensor.is_floating_point()):
            kind = f"of {tensor.dtype}" if plain else "sparse, quantized or without its numbers"
            raise Unfit(f"{name} is {kind}; weights must be plain floating-point numbers")
        copies[name] = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not copies[name].isfinite().all():
            raise Unfit(f"{name} has values that are not finite; the file is damaged, or its training failed: get another")
    return copies


def write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes float32 tensors to a safetensors file, whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, beside, metadata={"format": "pt"})
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        beside.unlink(missing_ok=True)
        raise Unfit(f"cannot write {path}: {reason}") from None


def some(names: Iterable[str]) -> str:
    """The first few names, in words."""
    names = list(names)
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
