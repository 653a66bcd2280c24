"""JPEGs to batches of bytes: our loader beside a DataLoader, from files, from tar shards, and from its cache."""

import statistics
import tarfile
from pathlib import Path

from programs import Figures, bench, peer
from rows.plan import Plan
from turns import Group, Kind, Row, compare

SIZE, BATCH, SHARDS = 256, 32, 4
EPOCHS = 3
# 160 photographs make 1,280 images an epoch.
REPEAT = 8
CACHE_GIB = 2
# More threads than cores, on pictures of which every 16th has 20 times the pixels of the others.
MIXED = ["--mixed", 640, "--workers", 8]
MIXED_CORES = 2
# Pictures of twelve aspects.
ASPECTS = 1280


def photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def shards_of(plan: Plan) -> Path:
    """The photographs as tar shards, one sample a file, dealt out so that every worker has as many."""
    folder = plan.scratch / "shards"
    if not folder.exists():
        folder.mkdir()
        files = photographs(plan.data)
        for shard in range(SHARDS):
            with tarfile.open(folder / f"{shard:04}.tar", "w") as tar:
                for number in range(shard, len(files), SHARDS):
                    tar.add(files[number], f"{number:06}.jpg")
    return folder


def group(plan: Plan) -> Group:
    repeat = 1 if plan.quick else REPEAT

    def steady(rates: list[float]) -> Figures:
        # The first epoch starts the workers.
        return {"images_per_sec": statistics.median(rates[1:]), "first_epoch": rates[0]}

    def ours(folder: Path, *more: str) -> Figures:
        size = ["--size", SIZE, "--filter", "bicubic", "--workers", plan.threads]
        return steady(bench("loader", "--data", folder, *size, "--epochs", EPOCHS, "--repeat", repeat, *more)["images_per_sec"])

    def theirs(folder: Path, *more: str) -> Figures:
        size = ["--size", SIZE, "--batch", BATCH, "--workers", plan.threads]
        return steady(peer("load.py", folder.resolve(), *size, "--epochs", EPOCHS, "--repeat", repeat, *more)["images_per_sec"])

    def mixed(*more: str) -> Figures:
        size = ["--size", SIZE, "--filter", "bicubic", "--epochs", EPOCHS]
        photos = plan.data.resolve()
        return steady(bench("loader", "--data", photos, *size, *MIXED, *more, cores=MIXED_CORES)["images_per_sec"])

    def aspects(*more: str) -> Figures:
        size = ["--size", SIZE, "--filter", "bicubic", "--workers", plan.threads, "--epochs", EPOCHS]
        count = ASPECTS // 8 if plan.quick else ASPECTS
        return steady(bench("loader", "--data", plan.data.resolve(), *size, "--aspects", count, *more)["images_per_sec"])

    work = f"JPEG to {SIZE}×{SIZE}"
    return Group(
        "loading",
        {
            "loader": lambda _: ours(plan.data.resolve()),
            "dataloader-pil": lambda _: theirs(plan.data),
            "dataloader-torchvision": lambda _: theirs(plan.data, "--decoder", "torchvision"),
            "loader-shards": lambda _: ours(shards_of(plan)),
            "webdataset-pil": lambda _: theirs(shards_of(plan)),
            "webdataset-torchvision": lambda _: theirs(shards_of(plan), "--decoder", "torchvision"),
            "loader-mixed": lambda _: mixed(),
            "loader-barrier": lambda _: mixed("--barrier"),
            "loader-buckets": lambda _: aspects("--buckets"),
            "loader-equal": lambda _: aspects(),
            "loader-cached": lambda _: ours(plan.data.resolve(), "--cache-gib", str(CACHE_GIB)),
        },
        [
            compare("loader", f"{work}, DataLoader with PIL", "loader", "dataloader-pil", 3.5),
            compare("loader-fast", f"{work}, DataLoader with torchvision's decoder", "loader", "dataloader-torchvision", None),
            compare("shards", f"{work} from tars, webdataset with PIL", "loader-shards", "webdataset-pil", 3.5),
            compare(
                "shards-fast", f"{work} from tars, webdataset with torchvision's decoder", "loader-shards", "webdataset-torchvision", None
            ),
            compare(
                "mixed", "pictures of 1 to 20 times the pixels, 8 threads on 2 cores, with a barrier", "loader-mixed", "loader-barrier", 1.0
            ),
            compare("buckets", "pictures of 12 aspects in 12 sizes, in one size", "loader-buckets", "loader-equal", 0.9),
            Row(
                "cache",
                "second epoch from the cache, first epoch without one",
                "images/s",
                Kind.MORE,
                8.0,
                ["loader-cached", "loader"],
                lambda turns: [(turn["loader-cached"]["images_per_sec"], turn["loader"]["first_epoch"]) for turn in turns],
            ),
        ],
    )
