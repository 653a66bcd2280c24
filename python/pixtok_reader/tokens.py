"""Token files that `pixtok encode` wrote, as arrays, and ids that a model generated as such files.

    for row in read_tokens("tokens"):               # a folder with a tokens.json
        row["key"], row["indices"]                  # a name, and int64 [h, w] for `model.py` or your own use

    write_tokens("generated", ids, like="tokens")   # `pixtok decode RUN --tokens generated --out pictures`

One file, however long, that needs numpy and nothing else (Parquet sets need pyarrow too): copy it where you
need it. It reads every format, shard by shard, and checks what it reads: a file that is not what was written
is a `TokensError` that names the file and the row.
"""

import json
import re
import struct
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

DTYPES = {"u16": np.dtype("<u2"), "i32": np.dtype("<i4")}
# Types in Megatron's index.
MEGATRON_TYPES = {"u16": 8, "i32": 4}
# mds sets use the second name, since MosaicML's `merge_index` takes every file that ends in .json for an index.
SIDECARS = ("tokens.json", "tokens.pixtok")
# What is known of every image.
FIELDS = ("key", "h", "w", "width", "height")
INT32 = np.dtype("<i4")
INT64 = np.dtype("<i8")


class TokensError(ValueError):
    """A file of a set is missing, damaged or of a kind that is not known here."""


def read_sidecar(folder: str | Path) -> dict:
    """The content of `tokens.json` in `folder` (`tokens.pixtok` for mds)."""
    usual, other = (Path(folder) / name for name in SIDECARS)
    splits = [Path(folder) / name for name in ("train", "val")]
    if not usual.exists() and not other.exists() and all(has_sidecar(split) for split in splits):
        raise TokensError(f"{folder} holds two sets of tokens; give one of them, {splits[0]} or {splits[1]}")
    path = other if other.exists() and not usual.exists() else usual
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokensError(
            f"cannot read {path}: {error.strerror}; give a folder of finished tokens"
        ) from error
    except ValueError as error:
        raise TokensError(f"{path} is damaged: {error}") from error
    version = sidecar.get("format_version")
    if version != 1:
        raise TokensError(
            f"{path} has format_version {version} and this file reads 1; use the tokens.py of its pixtok"
        )
    if sidecar["format"] not in READERS:
        raise TokensError(f"{path} names the format {sidecar['format']!r}; there are {', '.join(READERS)}")
    if sum(sidecar["shard_rows"]) != sidecar["counts"]["rows"]:
        raise TokensError(f"{path} is damaged: its shards and its counts do not agree")
    return sidecar


def has_sidecar(folder: Path) -> bool:
    return any((folder / name).exists() for name in SIDECARS)


def read_tokens(folder: str | Path) -> Iterator[dict]:
    """The rows of the set in `folder`, in order, one dict each:

    - key: str; label: int or None; text: str or None; json: dict or None
    - h, w: of the latent grid (1 and n of a sequence); width, height: in pixels, of the picture as it came
    - ids: as stored, flat
    - indices: int64 [h, w], or [h, w, codebooks] for several; [n] or [n, codebooks] of a sequence; framing,
      offset or map, and digits are undone. Of a set of prefixes they are the first tokens of a sequence, or of
      the first codebooks, as `prefix` in the sidecar says
    """
    folder = Path(folder)
    sidecar = read_sidecar(folder)
    coder = Coder(folder, sidecar)
    is_sequence = sidecar["grid"].get("shape") == "sequence"
    first_row = 0
    for number, rows in enumerate(sidecar["shard_rows"]):
        shard = Shard(folder, sidecar, number, rows, first_row)
        source = READERS[sidecar["format"]](shard)
        for at in range(rows + 1):
            with explained(f"{folder}, shard {number}, row {at}"):
                row = next(source, None)
                if (row is None) != (at == rows):
                    raise ValueError(
                        f"the files {'end' if row is None else 'go on'} here, not after {rows} rows"
                    )
                if row is None:
                    break
                shard.check(row)
                indices = coder.indices(row["h"], row["w"], row["ids"])
                row["indices"] = indices[0] if is_sequence else indices
            yield row
        first_row += rows


def write_tokens(
    folder: str | Path, ids: Iterable[np.ndarray], like: str | Path, keys: Iterable[str] | None = None
) -> None:
    """Writes ids that a model generated as a set in the new `folder`, for `pixtok decode` and `read_tokens`.

    `like` is the set that the model was trained on: the new one has its tokenizer, vocabulary, framing and
    number type. `ids` has a row of integers for each image, [N, L] or one after the other, as that set's rows
    are: with all ids of the framing, or with codes alone. A ValueError names the row that is neither, or has an
    id that is no code; rows, and places in a row, count from 0. `keys` are names for the pictures, else they are
    numbered. All images have one size, so `like` may not have images of different sizes.
    """
    folder, like = Path(folder), Path(like)
    sidecar = read_sidecar(like)
    h, w = sidecar["grid"]["h"], sidecar["grid"]["w"]
    if h is None or w is None:
        raise ValueError(
            f"the images of {like} have different sizes; write a .jsonl with h and w for `pixtok decode --like`"
        )
    coder, dtype = Coder(like, sidecar), DTYPES[sidecar["dtype"]]
    rows = []
    for number, row in enumerate(ids):
        try:
            rows.append(coder.whole(h, w, np.asarray(row).reshape(-1)))
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
    if not rows:
        raise ValueError("there are no rows of ids; give one for each image")
    keys = [f"{number:08}" for number in range(len(rows))] if keys is None else list(keys)
    if len(keys) != len(rows) or len(set(keys)) != len(keys):
        raise ValueError(f"there are {len(rows)} rows and {len(set(keys))} different keys; give one for each row")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder")
    shape = (len(rows), *axes_shape(sidecar, h, w, len(rows[0])))
    np.save(folder / "tokens.npy", np.stack(rows).astype(dtype).reshape(shape))
    with (folder / "keys.jsonl").open("w", encoding="utf-8") as file:
        for key in keys:
            line = {"key": key, "h": h, "w": w, "width": 0, "height": 0}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    sidecar = like_for(sidecar, len(rows), len(rows[0]))
    if "map" in sidecar["vocabulary"]:
        map_ = (like / sidecar["vocabulary"]["map"]).read_bytes()
        sidecar["vocabulary"]["map"] = "vocab-map.json"
        (folder / "vocab-map.json").write_bytes(map_)
    # A set that has a sidecar is whole, so this is the last file.
    text = json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokens.json").write_text(text, encoding="utf-8")


def like_for(sidecar: dict, rows: int, length: int) -> dict:
    """The sidecar of a set with one shard of generated rows in place of the rows of another set."""
    own = json.loads(json.dumps(sidecar))
    # What is about the other set's files and images.
    for name in ("names", "sources"):
        own.pop(name, None)
    source = {"kind": "generated", "path": "write_tokens", "blake3": ""}
    counts = {"images": rows, "rows": rows, "tokens": rows * length, "skipped": {}}
    return own | {
        "format": "npy",
        "length": length,
        "views": 1,
        "document_index": False,
        "source": source,
        "shard_rows": [rows],
        "counts": counts,
    }


def axes_shape(sidecar: dict, h: int, w: int, length: int) -> tuple[int, ...]:
    """The shape of a row's ids as an array."""
    n = sidecar["axes"].get("n", 1)
    shapes = {"grid": (h, w), "interleaved": (h, w, n), "stacked": (n, h, w)}
    return shapes.get(sidecar["axes"]["kind"], (length,))


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Whatever is wrong with files, as a TokensError that says where."""
    try:
        yield
    except KeyError as error:
        raise TokensError(f"{place}: there is no {error}") from error
    # A damaged file can make the libraries raise anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TokensError(f"{place}: {reason}") from error


class Shard:
    """One shard: where its files are, and what its rows have in common."""

    def __init__(self, folder: Path, sidecar: dict, number: int, rows: int, first_row: int) -> None:
        self.folder, self.number, self.rows, self.first_row = folder, number, rows, first_row
        self.sidecar = sidecar
        self.total = len(sidecar["shard_rows"])
        self.dtype_name = sidecar["dtype"]
        self.dtype = DTYPES[sidecar["dtype"]]
        self.grid = (sidecar["grid"]["h"], sidecar["grid"]["w"])
        self.axes, self.numbers = sidecar["axes"]["kind"], sidecar["axes"].get("n", 1)
        self.length, self.views = sidecar["length"], sidecar["views"]
        self.image_size = sidecar["image_size"]
        self.names = sidecar.get("names")
        self.document_index = sidecar.get("document_index", False)

    def file(self, stem: str, extension: str) -> Path:
        """`stem.extension` of the only shard, `stem-00003-of-00010.extension` of one of several."""
        part = "" if self.total == 1 else f"-{self.number:05}-of-{self.total:05}"
        return self.folder / f"{stem}{part}.{extension}"

    def shape(self, h: int, w: int, length: int) -> tuple[int, ...]:
        """Of a row's ids as an array."""
        return axes_shape(self.sidecar, h, w, length)

    def constant_shape(self) -> tuple[int, ...] | None:
        """Of all rows' ids, when it is the same."""
        if self.length is None or (self.axes != "sequence" and None in self.grid):
            return None
        return self.shape(*self.grid, self.length)

    def row(self, line: dict, ids: np.ndarray) -> dict:
        """A row of what is known of it beside its ids."""
        known = {name: line[name] for name in FIELDS}
        return known | {name: line.get(name) for name in ("label", "text", "json")} | {"ids": ids}

    def check(self, row: dict) -> None:
        """Raises ValueError when `row` is not as the sidecar says."""
        h, w, ids = row["h"], row["w"], row["ids"]
        if not all(isinstance(side, int) and side > 0 for side in (h, w)):
            raise ValueError(f"its grid is {h} x {w}")
        if None not in self.grid and (h, w) != self.grid:
            raise ValueError(f"its grid is {h} x {w} where all have {self.grid[0]} x {self.grid[1]}")
        length = self.length or np.prod(self.shape(h, w, len(ids)))
        if len(ids) != length:
            raise ValueError(f"it has {len(ids)} ids and should have {length}")

    def keys(self) -> Iterator[dict]:
        """The lines of keys.jsonl, one for each row."""
        path = self.file("keys", "jsonl")
        for number, line in enumerate(lines(path)):
            if number == self.rows:
                raise TokensError(f"{path.name} has more than {self.rows} lines")
            yield line


class Coder:
    """From stored ids back to indices."""

    def __init__(self, folder: Path, sidecar: dict) -> None:
        tokenizer = sidecar["tokenizer"]
        self.frame, self.vocabulary = sidecar["specials"], sidecar["vocabulary"]
        self.codebooks, self.numbers = tokenizer["codebooks"], tokenizer["numbers"]
        self.stacked = tokenizer["arrangement"] == "stacked"
        self.levels, self.codes = None, tokenizer["codebook_size"]
        if tokenizer["digits"]:
            self.levels, self.codes = np.array(tokenizer["levels"]), max(tokenizer["levels"])
            # The digits of each dimension count in the product of the levels of the faster ones.
            turn = -1 if tokenizer["digit_order"] == "last-fastest" else 1
            self.basis = np.cumprod(np.append(1, self.levels[::turn][:-1]))[::turn]
        self.id_of, self.code_of = None, None
        if "map" in self.vocabulary:
            self.read_map(folder / self.vocabulary["map"])

    def read_map(self, path: Path) -> None:
        """Takes the ids of the codes from a JSON array."""
        try:
            ids = np.array(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise TokensError(f"cannot read {path}, the map from codes to ids: {error}") from error
        if ids.shape != (self.codes,) or ids.dtype.kind != "i" or len(np.unique(ids)) != len(ids):
            raise TokensError(f"{path} is no array of {self.codes} different ids")
        self.code_of = np.argsort(ids)
        self.id_of = ids[self.code_of]

    def before(self, h: int, w: int) -> list[int]:
        """The ids in front of the first code."""
        size = self.frame.get("size", {"kind": "none"})
        spelt = []
        if size["kind"] == "grid":
            spelt = [size["base"] + side // size["div"] for side in (h, w)]
        elif size["kind"] == "text":
            spelt = [size["ids"]["0123456789*".index(letter)] for letter in f"{h}*{w}"]
        return self.named("bos", "boi") + spelt + self.named("img")

    def named(self, *names: str) -> list[int]:
        return [self.frame[name] for name in names if self.frame.get(name) is not None]

    def lines(self, h: int, w: int) -> tuple[int, int]:
        """How many lines the codes have, and codes in a line."""
        return (h * self.numbers, w) if self.stacked else (h, w * self.numbers)

    def whole(self, h: int, w: int, ids: np.ndarray) -> np.ndarray:
        """A row as it is stored, from one that is that or has codes alone. Checks all ids."""
        if ids.dtype.kind not in "iu":
            raise ValueError(f"it has numbers of type {ids.dtype}, and ids are integers")
        rows, width = self.lines(h, w)
        if len(ids) == rows * width:
            # Places are those of the row as it was given.
            self.codes_from_ids(ids.astype(np.int64), np.arange(len(ids)))
            before, eol, after = self.before(h, w), self.named("eol"), self.named("eof", "eoi", "eos", "eod")
            before, eol, after = (np.array(part, dtype=np.int64) for part in (before, eol, after))
            body = np.hstack([ids.astype(np.int64).reshape(rows, width), np.tile(eol, (rows, 1))])
            ids = np.concatenate([before, body.ravel(), after])
        self.indices(h, w, ids)
        return ids

    def split(self, h: int, w: int, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
        """The codes' part of a row, flat, the rest of it, and the ids of the frame that belong there."""
        before, eol, after = self.before(h, w), self.named("eol"), self.named("eof", "eoi", "eos", "eod")
        rows, width = self.lines(h, w)
        expected = len(before) + rows * (width + len(eol)) + len(after)
        if len(row) != expected:
            raise ValueError(f"it has {len(row)} ids, and with its frame a grid of {h} x {w} has {expected}")
        body = row[len(before) : len(row) - len(after)].reshape(rows, width + len(eol))
        rest = np.concatenate([row[: len(before)], body[:, width:].ravel(), row[len(row) - len(after) :]])
        return body[:, :width].ravel(), rest, before + eol * rows + after

    def unframe(self, h: int, w: int, ids: np.ndarray) -> np.ndarray:
        """Takes the ids of the frame off, [length] -> [h * w * numbers]."""
        codes, rest, meant = self.split(h, w, ids)
        wrong = np.flatnonzero(rest != np.array(meant, dtype=np.int64))
        if len(wrong):
            at = wrong[0]
            place = self.split(h, w, np.arange(len(ids)))[1][at]
            raise ValueError(f"place {place} has the id {rest[at]} where the framing has {meant[at]}")
        return codes

    def name_of(self, id_: int) -> str | None:
        """What a special id is for."""
        names = ("bos", "boi", "img", "eol", "eof", "eoi", "eos", "eod")
        return next((name for name in names if self.frame.get(name) == id_), None)

    def codes_from_ids(self, ids: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The codes of ids that are at these places of their row."""
        if self.id_of is None:
            codes = ids - self.vocabulary["offset"]
            wrong = (codes < 0) | (codes >= self.codes)
        else:
            places = np.searchsorted(self.id_of, ids).clip(max=len(self.id_of) - 1)
            codes, wrong = self.code_of[places], self.id_of[places] != ids
        if wrong.any():
            first = int(wrong.argmax())
            place, name = f"place {at[first]} has the id {ids[first]}", self.name_of(int(ids[first]))
            if name is not None:
                raise ValueError(
                    f"{place}, which is {name}, where a code belongs: mask special ids while sampling"
                )
            raise ValueError(f"{place}, which is none of the {self.codes} codes")
        return codes

    def indices(self, h: int, w: int, ids: np.ndarray) -> np.ndarray:
        """Stored ids, flat -> int64 [h, w] or [h, w, codebooks]."""
        codes = self.unframe(h, w, ids.astype(np.int64))
        codes = self.codes_from_ids(codes, self.split(h, w, np.arange(len(ids)))[0])
        if self.stacked:
            numbers = codes.reshape(self.numbers, h, w).transpose(1, 2, 0)
        else:
            numbers = codes.reshape(h, w, self.numbers)
        if self.levels is not None:
            digits = numbers.reshape(h, w, self.codebooks, len(self.levels))
            if (digits >= self.levels).any():
                raise ValueError(f"a digit is beyond its levels {self.levels.tolist()}")
            numbers = digits @ self.basis
        return np.ascontiguousarray(numbers[:, :, 0] if self.codebooks == 1 else numbers)


def lines(path: Path) -> Iterator[dict]:
    """The objects of a file with one in each line."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise TokensError(f"{path.name} is damaged in line {number + 1}: {error}") from error


def mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """A file's numbers, read when they are looked at."""
    bytes_ = path.stat().st_size
    if bytes_ == 0 or bytes_ % dtype.itemsize:
        raise ValueError(
            f"{path.name} has {bytes_} bytes, which are no numbers of {dtype.itemsize} bytes each"
        )
    return np.memmap(path, dtype=dtype, mode="r")


def narrowed(ids: list[int] | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Whole numbers in the type of the set, which must hold them."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() > np.iinfo(dtype).max:
        raise ValueError(f"its tokens are not ids of type {dtype}")
    return ids.astype(dtype)


def flat(array: np.ndarray) -> np.ndarray:
    """A copy that keeps no file open."""
    return np.array(array).reshape(-1)


# ---- One generator of rows for each format ----


def npy(shard: Shard) -> Iterator[dict]:
    path = shard.file("tokens", "npy")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    expected = (shard.rows, *(shard.constant_shape() or ()))
    if array.dtype != shard.dtype or array.shape != expected:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape} and should be {shard.dtype} {expected}")
    if path.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{path.name} goes on after its array")
    for number, line in enumerate(shard.keys()):
        yield shard.row(line, flat(array[number]))


def raw(shard: Shard) -> Iterator[dict]:
    path = shard.file("tokens", "bin")
    stream = mapped(path, shard.dtype)
    ends = mapped(shard.file("tokens", "index"), np.dtype("<u8")) if shard.document_index else None
    if ends is not None and len(ends) != shard.rows:
        raise ValueError(f"the index of {path.name} has {len(ends)} rows, and the shard {shard.rows}")
    begin = 0
    for number, line in enumerate(shard.keys()):
        # Without an index only framing makes lengths that the grid does not tell, and then all have the same.
        told = shard.length or line["h"] * line["w"] * shard.numbers
        end = begin + told if ends is None else int(ends[number])
        yield shard.row(line, flat(stream[begin:end]))
        begin = end
    if begin != len(stream):
        raise ValueError(f"{path.name} has {len(stream)} ids, and its rows have {begin}")


def jsonl(shard: Shard) -> Iterator[dict]:
    for line in lines(shard.file("tokens", "jsonl")):
        tokens = line["tokens"]
        if isinstance(tokens, str):
            tokens = ids_from_names(tokens, shard.names)
        yield shard.row(line, narrowed(tokens, shard.dtype))


def ids_from_names(text: str, names: dict) -> list[int]:
    """Ids of special tokens whose names follow each other, by a pattern like `<|visual token {:06}|>`."""
    before, after = re.split(r"\{.*\}", names["pattern"])
    name = re.escape(before) + "([0-9]+)" + re.escape(after)
    if not re.fullmatch(f"(?:{name})*", text):
        raise ValueError(f"its tokens {text[:40]!r} are not names like {names['pattern']!r}")
    return [names["offset"] + int(code) for code in re.findall(name, text)]


def parquet(shard: Shard) -> Iterator[dict]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise TokensError("Parquet needs pyarrow: pip install pyarrow, or export as npy or jsonl") from error
    part = f"-{shard.number:05}-of-{shard.total:05}"
    with pyarrow.parquet.ParquetFile(shard.folder / f"train{part}.parquet") as file:
        for batch in file.iter_batches():
            # An array for each row, whether or not the lists have a fixed length.
            tokens = batch.column("tokens").to_numpy(zero_copy_only=False)
            for ids, line in zip(tokens, batch.drop_columns("tokens").to_pylist()):
                line["json"] = json.loads(line["json"]) if line.get("json") else None
                yield shard.row(line, narrowed(ids, shard.dtype))


def webdataset(shard: Shard) -> Iterator[dict]:
    path = shard.folder / f"tokens-{shard.number:06}.tar"
    with tarfile.open(path, "r:") as tar:
        for key, members in samples(tar):
            # What came with the image, and an object of ours.
            own = json.loads(members["json"])
            line = own.pop("pixtok")
            array = np.load(BytesIO(members["tokens.npy"]), allow_pickle=False)
            expected = shard.shape(line["h"], line["w"], array.size)
            if array.dtype != shard.dtype or array.shape != expected:
                raise ValueError(
                    f"{key}.tokens.npy is {array.dtype} {array.shape}, not {shard.dtype} {expected}"
                )
            line["json"] = own or None
            if line["key"] != key:
                raise ValueError(f"{key}.json has the key {line['key']!r}")
            line["text"] = members["txt"].decode() if "txt" in members else None
            line["label"] = int(members["cls"]) if "cls" in members else None
            yield shard.row(line, array.reshape(-1))


def samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Neighbouring members with one name up to its first dot, by what comes after the dot."""
    key, members = None, {}
    for member in tar:
        folder, slash, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        if folder + slash + stem != key and members:
            yield key, members
            members = {}
        key = folder + slash + stem
        members[extension] = tar.extractfile(member).read()
    if members:
        yield key, members


def megatron(shard: Shard) -> Iterator[dict]:
    path = shard.file("tokens", "idx")
    index = path.read_bytes()
    rows = shard.rows
    header = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, MEGATRON_TYPES[shard.dtype_name], rows, rows + 1)
    if len(index) != len(header) + 20 * rows + 8 or not index.startswith(header):
        raise ValueError(f"{path.name} is not the index of {rows} rows of {shard.dtype}")
    lengths = np.frombuffer(index, INT32, rows, len(header))
    starts = np.frombuffer(index, INT64, rows, len(header) + 4 * rows)
    documents = np.frombuffer(index, INT64, rows + 1, len(header) + 12 * rows)
    stream = mapped(shard.file("tokens", "bin"), shard.dtype)
    ends = np.cumsum(lengths, dtype=np.int64)
    if (starts != (ends - lengths) * shard.dtype.itemsize).any() or (documents != np.arange(rows + 1)).any():
        raise ValueError(f"{path.name} does not have a document of one sequence for each row, in order")
    if ends[-1] != len(stream):
        raise ValueError(f"{path.name} counts {ends[-1]} ids, and the .bin has {len(stream)}")
    for line, start, end in zip(shard.keys(), ends - lengths, ends):
        yield shard.row(line, flat(stream[start:end]))


def items(path: Path, rows: int) -> tuple[bytes, Iterator[bytes]]:
    """The text and the items of `u32 n | u32[n + 1] offsets | text | items`."""
    data = mapped(path, np.dtype("u1"))
    table = 4 * (rows + 2)
    if len(data) < table or int.from_bytes(data[:4], "little") != rows:
        raise ValueError(f"{path.name} does not begin with a table of {rows} rows")
    offsets = data[4:table].view("<u4").astype(np.int64)
    if offsets[0] < table or (np.diff(offsets) < 0).any() or offsets[-1] != len(data):
        raise ValueError(
            f"{path.name} has offsets that are out of order or not those of its {len(data)} bytes"
        )
    return data[table : offsets[0]].tobytes(), (data[a:b].tobytes() for a, b in zip(offsets, offsets[1:]))


def mds(shard: Shard) -> Iterator[dict]:
    name = f"shard.{shard.number:05}.mds"
    entry = json.loads((shard.folder / "index.json").read_text(encoding="utf-8"))["shards"][shard.number]
    if (entry["raw_data"]["basename"], entry["samples"]) != (name, shard.rows):
        raise ValueError(f"index.json does not say that {name} has {shard.rows} rows")
    text, samples = items(shard.folder / name, shard.rows)
    config = json.loads(text)
    for sample in samples:
        line = mds_columns(config, sample)
        tokens = line.pop("tokens")
        expected = shard.shape(line["h"], line["w"], tokens.size)
        if tokens.dtype != shard.dtype or tokens.shape != expected:
            raise ValueError(f"its tokens are {tokens.dtype} {tokens.shape}, not {shard.dtype} {expected}")
        line["label"] = None if line["label"] == -1 else line["label"]
        line["json"] = json.loads(line["json"]) if line["json"] else None
        yield shard.row(line | {"text": line["text"] or None}, tokens.reshape(-1))


def mds_columns(config: dict, sample: bytes) -> dict:
    """Lengths of the columns of no fixed size, then all columns."""
    sizes = config["column_sizes"]
    at = 4 * sizes.count(None)
    lengths = iter(struct.unpack(f"<{sizes.count(None)}I", sample[:at]))
    line = {}
    for name, encoding, size in zip(config["column_names"], config["column_encodings"], sizes):
        length = next(lengths) if size is None else size
        value, at = sample[at : at + length], at + length
        if len(value) != length:
            raise ValueError(f"it ends within its column {name}")
        line[name] = mds_value(encoding, value)
    if at != len(sample):
        raise ValueError("bytes are left after its columns")
    return line


def mds_value(encoding: str, value: bytes) -> int | str | np.ndarray:
    """A column's value: `int`, `str`, `ndarray:uint16:16,16`, or `ndarray:uint16` with its shape in front."""
    kind, *rest = encoding.split(":")
    if kind == "int":
        return int.from_bytes(value, "little", signed=True)
    if kind == "str":
        return value.decode()
    if kind != "ndarray":
        raise ValueError(f"the encoding {encoding!r} is not known here")
    dtype = np.dtype(rest[0]).newbyteorder("<")
    if len(rest) == 2:
        return np.frombuffer(value, dtype).reshape([int(axis) for axis in rest[1].split(",")])
    axes, code = value[0] >> 2, value[0] & 3
    begin = 1 + (axes << code)
    shape = np.frombuffer(value[1:begin], f"<u{1 << code}").tolist()
    return np.frombuffer(value[begin:], dtype).reshape(shape)


def litdata(shard: Shard) -> Iterator[dict]:
    name = f"chunk-0-{shard.number}.bin"
    index = json.loads((shard.folder / "index.json").read_text(encoding="utf-8"))
    entry = index["chunks"][shard.number]
    if (entry["filename"], entry["chunk_size"]) != (name, shard.rows):
        raise ValueError(f"index.json does not say that {name} has {shard.rows} rows")
    if index["config"]["data_format"] != ["no_header_tensor:15"]:
        raise ValueError(f"index.json has the data_format {index['config']['data_format']}, not int32 tokens")
    text, rows = items(shard.folder / name, shard.rows)
    if text:
        raise ValueError(f"{name} has {len(text)} bytes between its table and its first row")
    for line, row in zip(shard.keys(), rows):
        yield shard.row(line, np.frombuffer(row, INT32))


def llamagen(shard: Shard) -> Iterator[dict]:
    codes, labels = (f"imagenet{min(shard.image_size)}_{what}" for what in ("codes", "labels"))
    for number, line in enumerate(shard.keys()):
        image, view = divmod(shard.first_row + number, shard.views)
        array = np.load(shard.folder / codes / f"{image}.npy", allow_pickle=False)
        label = np.load(shard.folder / labels / f"{image}.npy", allow_pickle=False)
        if array.dtype != INT64 or array.shape != (1, shard.views, shard.length):
            raise ValueError(f"{codes}/{image}.npy is {array.dtype} {array.shape}")
        if label.dtype != INT64 or label.shape != (1,) or label[0] != line.get("label", -1):
            raise ValueError(f"{labels}/{image}.npy is not the label {line.get('label', -1)}")
        yield shard.row(line, array[0, view])


READERS = {
    "npy": npy,
    "raw": raw,
    "jsonl": jsonl,
    "parquet": parquet,
    "webdataset": webdataset,
    "megatron": megatron,
    "mds": mds,
    "litdata": litdata,
    "llamagen": llamagen,
}
