#!/usr/bin/env python3
"""Writes photographs as tokens in every format and reads them with the programs the formats are made for.

    just test-readers

Every reader must give the keys and the ids of the JSONL export, in its order; python/pixtok_reader/tokens.py
the same indices from each; and those must be what model.py beside it makes of the photographs, but for ties.
What tokens.py writes as if a model had generated it must decode to the pictures of the set it is like.
"""

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SCRATCH = tempfile.TemporaryDirectory(prefix="pixtok-readers-")
# Nothing is looked up, and what the libraries keep is removed with the rest.
os.environ |= {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": f"{SCRATCH.name}/hugging-face",
    "DATA_OPTIMIZER_CACHE_FOLDER": f"{SCRATCH.name}/litdata",
    "OMP_NUM_THREADS": "1",
}

import datasets  # noqa: E402
import litdata  # noqa: E402
import pyarrow.parquet  # noqa: E402
import streaming  # noqa: E402
import streaming.base.util  # noqa: E402
import torch  # noqa: E402
import webdataset  # noqa: E402
from tiny import image, model, photographs, pixtok, rows_by_key, ties, train  # noqa: E402

from pixtok_reader import tokens  # noqa: E402

# Formats whose images have one size.
ONE_SIZE = {"npy", "litdata", "llamagen"}
FRAME = (
    "--vocab-offset 70000 --bos 1 --boi 2 --size-tokens grid:100 --img 3 --eol 4 --eof 5 --eoi 6 --eos 7"
    " --append-eod 8"
)

# A row as a reader gives it: its key, and its ids, flat.
Row = tuple[str, list[int]]


def keys(folder: Path) -> Iterator[str]:
    """Names of the rows, from the companions of formats whose own files have none."""
    for path in sorted(folder.glob("keys*.jsonl")):
        yield from (json.loads(line)["key"] for line in path.read_text().splitlines())


def read_numpy(folder: Path) -> Iterator[Row]:
    arrays = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("tokens*.npy"))]
    yield from zip(keys(folder), (row.ravel().tolist() for array in arrays for row in array))


def read_memmap(folder: Path) -> Iterator[Row]:
    sidecar = tokens.read_sidecar(folder)
    dtype = {"u16": np.uint16, "i32": np.uint32}[sidecar["dtype"]]
    stream = np.concatenate([np.memmap(path, dtype, mode="r") for path in sorted(folder.glob("tokens*.bin"))])
    names, grids = list(keys(folder)), []
    for path in sorted(folder.glob("keys*.jsonl")):
        grids += [json.loads(line) for line in path.read_text().splitlines()]
    numbers = sidecar["tokenizer"]["numbers"]
    ends = np.cumsum([sidecar["length"] or grid["h"] * grid["w"] * numbers for grid in grids])
    assert ends[-1] == len(stream), "the stream is longer than its rows"
    yield from zip(names, (row.tolist() for row in np.split(stream, ends[:-1])))


def read_llamagen(folder: Path) -> Iterator[Row]:
    """As LlamaGen's CustomDataset does: one file an image; here all its views, where training draws one."""
    codes, labels = (next(folder.glob(f"imagenet*_{what}")) for what in ("codes", "labels"))
    names = keys(folder)
    for i in range(len(list(codes.iterdir()))):
        features, label = np.load(codes / f"{i}.npy"), np.load(labels / f"{i}.npy")
        assert features.dtype == label.dtype == np.int64 and features.ndim == 3 and label.shape == (1,)
        for view in features[0]:
            yield next(names), view.tolist()


def read_pyarrow(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*.parquet")):
        table = pyarrow.parquet.read_table(path)
        yield from zip(table["key"].to_pylist(), table["tokens"].to_pylist())


def load_parquet(folder: Path) -> datasets.Dataset:
    files = sorted(map(str, folder.glob("*.parquet")))
    return datasets.load_dataset("parquet", data_files={"train": files}, split="train")


def read_datasets_parquet(folder: Path) -> Iterator[Row]:
    yield from ((row["key"], row["tokens"]) for row in load_parquet(folder))


def read_datasets_webdataset(folder: Path) -> Iterator[Row]:
    files = sorted(map(str, folder.glob("*.tar")))
    loaded = datasets.load_dataset("webdataset", data_files={"train": files}, split="train")
    yield from ((row["__key__"], np.ravel(row["tokens.npy"]).tolist()) for row in loaded)


def load_json(folder: Path) -> datasets.Dataset:
    """The lines, with the types that the set states; otherwise `datasets` guesses them from the first lines."""
    features = datasets.Features.from_dict(json.loads((folder / "features.json").read_text()))
    files = sorted(map(str, folder.glob("tokens*.jsonl")))
    return datasets.load_dataset("json", data_files={"train": files}, features=features, split="train")


def read_datasets_json(folder: Path) -> Iterator[Row]:
    yield from ((row["key"], row["tokens"]) for row in load_json(folder))


def read_webdataset(folder: Path) -> Iterator[Row]:
    files = sorted(map(str, folder.glob("*.tar")))
    for row in webdataset.WebDataset(files, shardshuffle=False).decode():
        assert row["json"]["pixtok"]["key"] == row["__key__"]
        yield row["__key__"], row["tokens.npy"].ravel().tolist()


class IndexedDataset:
    """Reads an index as Megatron-LM's IndexedDataset does (megatron/core/datasets/indexed_dataset.py)."""

    DTYPES = {
        1: np.uint8,
        2: np.int8,
        3: np.int16,
        4: np.int32,
        5: np.int64,
        6: np.float64,
        7: np.float32,
        8: np.uint16,
    }

    def __init__(self, prefix: str) -> None:
        with open(f"{prefix}.idx", "rb") as stream:
            assert stream.read(9) == b"MMIDIDX\x00\x00", "bad header"
            (version,) = struct.unpack("<Q", stream.read(8))
            assert version == 1, "bad version"
            self.dtype = self.DTYPES[struct.unpack("<B", stream.read(1))[0]]
            (self.sequences,) = struct.unpack("<Q", stream.read(8))
            (documents,) = struct.unpack("<Q", stream.read(8))
            offset = stream.tell()
        index = np.memmap(f"{prefix}.idx", mode="r", order="C")
        self.lengths = np.frombuffer(index, np.int32, self.sequences, offset)
        offset += self.lengths.nbytes
        self.pointers = np.frombuffer(index, np.int64, self.sequences, offset)
        offset += self.pointers.nbytes
        self.documents = np.frombuffer(index, np.int64, documents, offset)
        assert self.lengths.shape[0] == len(self) == self.documents[-1]
        self.bin = np.memmap(f"{prefix}.bin", mode="r", order="C")

    def __len__(self) -> int:
        return self.sequences

    def __getitem__(self, at: int) -> np.ndarray:
        return np.frombuffer(self.bin, self.dtype, self.lengths[at], self.pointers[at])


def read_megatron(folder: Path) -> Iterator[Row]:
    names = keys(folder)
    for path in sorted(folder.glob("*.idx")):
        dataset = IndexedDataset(str(path.with_suffix("")))
        yield from ((next(names), dataset[at].tolist()) for at in range(len(dataset)))


def read_streaming(folder: Path) -> Iterator[Row]:
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    yield from ((row["key"], row["tokens"].ravel().tolist()) for row in dataset)


def read_litdata(folder: Path) -> Iterator[Row]:
    loader = litdata.TokensLoader(block_size=tokens.read_sidecar(folder)["length"])
    dataset = litdata.StreamingDataset(str(folder), item_loader=loader, shuffle=False, drop_last=False)
    names = keys(folder)
    yield from ((next(names), row.tolist()) for row in dataset)


def read_ours(folder: Path) -> Iterator[Row]:
    yield from ((row["key"], row["ids"].tolist()) for row in tokens.read_tokens(folder))


READERS: dict[str, dict[str, Callable[[Path], Iterator[Row]]]] = {
    "npy": {"numpy": read_numpy},
    "raw": {"numpy.memmap": read_memmap},
    "jsonl": {"datasets": read_datasets_json},
    "parquet": {"pyarrow": read_pyarrow, "datasets": read_datasets_parquet},
    "webdataset": {"webdataset": read_webdataset, "datasets": read_datasets_webdataset},
    "megatron": {"IndexedDataset": read_megatron},
    "mds": {"mosaicml-streaming": read_streaming},
    "litdata": {"litdata": read_litdata},
    "llamagen": {"numpy": read_llamagen},
}
assert READERS.keys() == tokens.READERS.keys(), "a format has no reader here or in tokens.py"


class Case:
    """One way to encode, and what its JSONL export says."""

    def __init__(
        self, name: str, run: Path, data: Path, options: str, shard_rows: int, formats: list[str]
    ) -> None:
        self.name, self.run, self.data, self.formats = name, run, data, formats
        self.options = [*options.split(), "--shard-rows", str(shard_rows), "--threads", "1"]
        self.shard_rows, self.wrong = shard_rows, 0

    def check(self) -> int:
        """How many readers read otherwise."""
        folder = self.encode("jsonl")
        shards = [path.read_text().splitlines() for path in sorted(folder.glob("tokens*.jsonl"))]
        lines = [json.loads(line) for shard in shards for line in shard]
        assert len(shards) == -(-len(lines) // self.shard_rows), "the set has other shards"
        self.expected = [(line["key"], line["tokens"]) for line in lines]
        self.rows = rows_by_key(tokens.read_tokens(folder))
        self.report("jsonl", "model.py", *self.compare_with_model())
        for format_ in self.formats:
            folder = self.encode(format_)
            for reader, read in (READERS[format_] | {"tokens.py": read_ours}).items():
                self.report(format_, reader, *self.compare(read, folder))
            self.report(format_, "tokens.py, indices", *self.compare_indices(folder))
        return self.wrong

    def encode(self, format_: str) -> Path:
        folder = Path(SCRATCH.name) / self.name / format_
        if not folder.exists():
            pixtok(
                "encode", self.run, "--data", self.data, "--out", folder, "--format", format_, *self.options
            )
        return folder

    def compare(self, read: Callable[[Path], Iterator[Row]], folder: Path) -> tuple[bool, str]:
        began = time.monotonic()
        found = list(read(folder))
        seconds = time.monotonic() - began
        if found == self.expected:
            ids = sum(len(row) for _, row in found)
            return True, f"{len(found)} rows, {ids} ids, {seconds:.1f} s"
        differ = [ours[0] for ours, theirs in zip(self.expected, found) if ours != theirs]
        return False, f"{len(found)} rows of {len(self.expected)}; {len(differ)} differ, first {differ[:1]}"

    def compare_indices(self, folder: Path) -> tuple[bool, str]:
        """All that tokens.py gives of the set, beside what it gives of the JSONL export."""
        rows = rows_by_key(tokens.read_tokens(folder))
        differ = [key for key, row in rows.items() if not self.same(row, self.rows.get(key))]
        shapes = {row["indices"].shape for row in rows.values()}
        words = f"{len(rows)} rows, shapes {sorted(shapes)[:3]}" + (
            f"; {differ[:3]} differ" if differ else ""
        )
        return not differ and rows.keys() == self.rows.keys(), words

    @staticmethod
    def same(ours: dict, other: dict | None) -> bool:
        plain = ["key", "h", "w", "width", "height", "label", "text", "json"]
        arrays = ["ids", "indices"]
        return other is not None and (
            all(ours[name] == other[name] for name in plain)
            and all(np.array_equal(ours[name], other[name]) for name in arrays)
        )

    def compare_with_model(self) -> tuple[bool, str]:
        """The indices, beside those that model.py makes of the PNG files."""
        tokenizer = model.load(self.run)
        tied = wrong = 0
        for key, row in self.rows.items():
            name, _, flipped = key.partition("~")
            pixels = image(self.data / f"{name}.png")
            pixels = pixels.flip(3) if flipped else pixels
            exported = torch.from_numpy(row["indices"])[None]
            found = ties(tokenizer, pixels, tokenizer.encode(pixels), exported)
            tied, wrong = tied + found[0], wrong + found[1]
        return wrong == 0, f"{len(self.rows)} rows, {tied} ties, {wrong} other indices"

    def report(self, format_: str, reader: str, fine: bool, words: str) -> None:
        self.wrong += not fine
        print(f"{'OK' if fine else 'DIFFERS':8} {self.name:8} {format_:11} {reader:20} {words}", flush=True)


def check_captions(run: Path, data: Path) -> int:
    """Whether `datasets` keeps captions and JSON that only the last rows have, in a separate shard."""
    lines: list[dict] = [{"path": str(path)} for path in sorted(data.rglob("*.png"))[:20]]
    for at, line in enumerate(lines[10:]):
        line |= {"caption": [f"caption {at}", f"another {at}"], "by": {"name": "x", "at": [at, "a"][at % 2]}}
    listed = Path(SCRATCH.name) / "list.jsonl"
    listed.write_text("\n".join(map(json.dumps, lines)))
    wrong = 0
    for format_, load in {"jsonl": load_json, "parquet": load_parquet}.items():
        folder = Path(SCRATCH.name) / "captions" / format_
        pixtok("encode", run, "--data", listed, "--out", folder, "--format", format_, "--shard-rows", "10")
        rows = list(load(folder))
        said = [json.loads(row["json"]) if isinstance(row["json"], str) else row["json"] for row in rows]
        found = [(row["text"], own and own["captions"], own and own["by"]) for row, own in zip(rows, said)]
        expected = [(line["caption"][0], line["caption"], line["by"]) for line in lines[10:]]
        fine = found == [(None, None, None)] * 10 + expected
        wrong += not fine
        print(f"{'OK' if fine else 'DIFFERS':8} captions {format_:11} datasets", flush=True)
    return wrong


def check_features(run: Path, data: Path) -> int:
    """Whether `datasets` shows the classes and the length of the lists, and pyarrow the length."""
    names = sorted(path.name for path in data.iterdir() if path.is_dir())
    wrong = 0
    for format_, load in {"jsonl": load_json, "parquet": load_parquet}.items():
        folder = Path(SCRATCH.name) / "features" / format_
        pixtok("encode", run, "--data", data, "--out", folder, "--format", format_, "--shard-rows", "40")
        sidecar, loaded = tokens.read_sidecar(folder), load(folder)
        label, ids = loaded.features["label"], loaded.features["tokens"]
        rows = zip(loaded, tokens.read_tokens(folder))
        fine = (
            names == label.names == sidecar["source"]["classes"]
            and (ids.length, ids.feature.dtype) == (sidecar["length"], "uint16")
            and all(
                theirs["label"] == ours["label"]
                and names[ours["label"]] == ours["key"].split("/")[0]
                and theirs["tokens"] == ours["ids"].tolist()
                for theirs, ours in rows
            )
        )
        if format_ == "parquet":
            for path in folder.glob("*.parquet"):
                column = pyarrow.parquet.read_schema(path).field("tokens").type
                fine = fine and column.list_size == sidecar["length"]
        wrong += not fine
        print(f"{'OK' if fine else 'DIFFERS':8} features {format_:11} datasets", flush=True)
    return wrong


def check_parts(run: Path, data: Path, expected: list[Row]) -> int:
    """Whether MosaicML joins the indices of a job's parts without changes to them."""
    folder = Path(SCRATCH.name) / "parts"
    for part in "0/2", "1/2":
        options = ["--format", "mds", "--shard", part, "--threads", "1"]
        pixtok("encode", run, "--data", data, "--out", folder, *options)
    streaming.base.util.merge_index(str(folder))
    fine = sorted(read_streaming(folder)) == sorted(expected)
    print(f"{'OK' if fine else 'DIFFERS':8} parts    mds         merge_index", flush=True)
    return int(not fine)


def check_generated(case: Case) -> int:
    """Whether rows that tokens.py writes, whole or as codes alone, are the pictures of their set."""
    like = case.encode("raw")
    rows = list(tokens.read_tokens(like))
    coder = tokens.Coder(like, tokens.read_sidecar(like))
    forms = {
        "whole": [row["ids"] for row in rows],
        "codes": [coder.unframe(row["h"], row["w"], row["ids"]) for row in rows],
    }
    scratch = Path(SCRATCH.name) / "generated"
    options = ["--threads", "1", "--sheets"]
    pixtok("decode", case.run, "--tokens", like, "--out", scratch / "pictures", *options)
    expected = [path.read_bytes() for path in sorted((scratch / "pictures").glob("*.png"))]
    wrong = 0
    for form, ids in forms.items():
        tokens.write_tokens(scratch / form, ids, like)
        pixtok("decode", case.run, "--tokens", scratch / form, "--out", scratch / f"{form}-pictures", *options)
        pictures = [path.read_bytes() for path in sorted((scratch / f"{form}-pictures").glob("*.png"))]
        fine = bool(pictures) and pictures == expected
        wrong += not fine
        print(f"{'OK' if fine else 'DIFFERS':8} {case.name:8} {form:11} write_tokens", flush=True)
    return wrong


def main() -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    scratch = Path(SCRATCH.name)
    square, few, mixed = (scratch / name for name in ("square", "few", "mixed"))
    photographs(square, 500, [(64, 64)])
    photographs(few, 60, [(64, 64)])
    photographs(mixed, 40, [(64, 64), (80, 64), (56, 72)])
    for name, config in ("one", "fsq"), ("two", "residual-fsq"):
        train(scratch / f"run-{name}", config)
        pixtok("export", scratch / f"run-{name}", "--out", scratch / name)
    other = "--fit whole --digits --arrange stacked --vocab-size 100278"
    cases = [
        Case("plain", scratch / "one", square, "", 150, list(READERS)),
        Case("framed", scratch / "two", few, f"{FRAME} --flip", 50, list(READERS)),
        Case("mixed", scratch / "one", mixed, other, 1000, [name for name in READERS if name not in ONE_SIZE]),
    ]
    wrong = sum(case.check() for case in cases)
    wrong += check_generated(cases[1])
    wrong += check_captions(scratch / "one", square)
    wrong += check_features(scratch / "one", few)
    wrong += check_parts(scratch / "one", square, cases[0].expected)
    sys.exit(f"{wrong} readers differ" if wrong else 0)


if __name__ == "__main__":
    main()
