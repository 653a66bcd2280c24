"""Nearest code in PyTorch: `torch.cdist` and `argmin`, or the lookup of vector-quantize-pytorch.

    lookup.py --with cdist --codes 65536 --dim 8 --vectors 32768

Prints one line of JSON: seconds (median) and the bytes of memory at most above the inputs. `--budget-gib` limits the memory of
this process; the vectors are then halved until the lookup fits.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from vector_quantize_pytorch import VectorQuantize


def memory(key: str) -> int:
    """Bytes, by the name of a line in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


def forget_peak() -> None:
    """The peak begins anew, at what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")


def lookup(kind: str, codes: torch.Tensor, vectors: torch.Tensor) -> Callable[[], torch.Tensor]:
    if kind == "cdist":
        return lambda: torch.cdist(vectors, codes).argmin(1)
    quantizer = VectorQuantize(dim=codes.shape[1], codebook_size=len(codes), decay=0.99).eval()
    quantizer._codebook.embed.copy_(codes[None])
    return lambda: quantizer(vectors[None])[1]


@torch.no_grad()
def measure(args: argparse.Namespace, count: int) -> dict[str, float]:
    torch.manual_seed(0)
    vectors = torch.randn(count, args.dim)
    find = lookup(args.kind, torch.randn(args.codes, args.dim), vectors)
    forget_peak()
    before = memory("VmHWM")
    find()
    extra = memory("VmHWM") - before
    seconds = []
    for _ in range(args.rounds):
        began = time.perf_counter()
        find()
        seconds.append(time.perf_counter() - began)
    return {"vectors": count, "seconds": statistics.median(seconds), "extra_bytes": extra}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--with", dest="kind", choices=["cdist", "vector-quantize-pytorch"], required=True)
    parser.add_argument("--codes", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--vectors", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-gib", type=float, help="of memory")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.budget_gib:
        limit = memory("VmSize") + int(args.budget_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    count = args.vectors
    while True:
        try:
            figures = measure(args, count)
            break
        except RuntimeError as error:
            if "allocate memory" not in str(error) or count == 1:
                raise
            count //= 2
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
