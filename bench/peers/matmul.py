"""How many operations a second the machine's matrix products reach, by PyTorch: the best of some sizes, as JSON."""

import argparse
import json
import time

import torch

SIZES = (1024, 2048, 4096)
# Of each size, at least this long.
SECS = 1.5


def rate(size: int, kind: torch.dtype) -> float:
    """A multiplication and an addition are two operations."""
    a, b = torch.randn(2, size, size).to(kind)
    out = torch.empty_like(a)
    best = 0.0
    began = time.perf_counter()
    while time.perf_counter() - began < SECS:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kind = torch.bfloat16 if args.precision == "bf16" else torch.float32
    print(json.dumps({"operations_per_sec": max(rate(size, kind) for size in SIZES)}))


if __name__ == "__main__":
    main()
