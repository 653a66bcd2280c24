"""The nearest of 65,536 codes: ours beside `torch.cdist` and vector-quantize-pytorch."""

from machine import available_gib
from programs import Figures, bench, peer
from rows.plan import Plan
from turns import Group, Kind, compare

CODES, DIM, VECTORS = 65536, 8, 32768
# Of the memory that is free, at most this share is given to a lookup whose need is not known beforehand.
SHARE = 0.7


def group(plan: Plan) -> Group:
    shape = ["--codes", CODES, "--dim", DIM]
    vectors = VECTORS // 16 if plan.quick else VECTORS
    # How many vectors the library can look up at once, once that is known.
    fits: list[int] = []

    def ours(count: int) -> Figures:
        return bench("quantizers", "--search", f"{CODES},{DIM},{count}")

    def library(_: int) -> Figures:
        budget = [] if fits else ["--budget-gib", f"{SHARE * available_gib():.1f}"]
        count = fits[0] if fits else vectors
        figures = peer("lookup.py", "--with", "vector-quantize-pytorch", *shape, "--vectors", count, "--threads", plan.threads, *budget)
        fits[:] = [int(figures["vectors"])]
        return figures

    what = f"nearest of {CODES:,} codes, D {DIM}"
    return Group(
        "search",
        {
            "search": lambda _: ours(vectors),
            "cdist": lambda _: peer("lookup.py", "--with", "cdist", *shape, "--vectors", vectors, "--threads", plan.threads),
            "library-lookup": library,
            "search-fewer": lambda _: ours(fits[0]),
        },
        [
            compare("search", f"{what}, torch.cdist and argmin", "search", "cdist", 5.0, "seconds", "s", Kind.TIMES_LESS),
            compare(
                "search-memory",
                f"{what}, memory above the inputs, torch.cdist",
                "search",
                "cdist",
                0.02,
                "extra_bytes",
                "bytes",
                Kind.AT_MOST,
            ),
            compare(
                "search-library",
                f"{what}, vector-quantize-pytorch with as many vectors as fit",
                "search-fewer",
                "library-lookup",
                5.0,
                "seconds",
                "s",
                Kind.TIMES_LESS,
            ),
        ],
    )
