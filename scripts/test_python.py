#!/usr/bin/env python3
"""Exports tiny tokenizers and compares what Python makes of them with what pixtok makes.

    just test-python

For each kind, on 100 photographs: encoder.pt and python/pixtok_reader must give the indices of
`pixtok encode`, but for ties; decoder.pt and pixtok_reader must give images within 1e-4 of each other, and
these, in 8 bits, must be within 1 level of the pictures of `pixtok decode`. For an index that no code has,
pixtok_reader raises an error with the index and its place, and decoder.pt takes the nearest code. Where
images may have any size, both must agree on one that is twice as wide too. Where a kind names a prefix, the
sets of `pixtok encode --prefix` are compared in the same way.

A tokenizer whose tokens form a sequence (the toy in src/tests/sequence.rs) is exported too: in every format
tokens.py must give the indices of encoder.pt, decoder.pt must give the pictures of `pixtok decode`, and
model.py must say that it does not have this network.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import torch
from tiny import ROOT, image, model, photographs, pixtok, ties, train

from pixtok_reader import tokens

COUNT = 100
# Each kind of quantizer and of network names its own in tests/kinds.
KINDS = {
    case["name"]: (case["config"].removeprefix("photos96-"), case.get("set", []), case.get("prefix"))
    for path in sorted((ROOT / "tests/kinds").glob("*/*.toml"))
    for case in tomllib.loads(path.read_text(encoding="utf-8"))["python"]
}


def levels(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> 8 bits, as numbers that can be subtracted."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().int()


def refuses_others(
    tokenizer: model.Tokenizer, decoder: torch.jit.ScriptModule, indices: torch.Tensor
) -> bool:
    """Whether indices of one image that no code has are handled as documented."""
    size = tokenizer.quantizer.size
    # Of the first codebook, where there are several.
    place = (0, 1, 2) if tokenizer.tokens is None else (0, 2)
    place += (0,) * (indices.ndim - len(place))
    for index, nearest in (-1, 0), (size, size - 1), (10**9, size - 1):
        wrong, clamped = indices.clone(), indices.clone()
        wrong[place], clamped[place] = index, nearest
        try:
            tokenizer.decode(wrong)
            return False
        except ValueError as error:
            if f"index {index} at {list(place)} is none of the {size} codes" not in str(error):
                return False
        if not torch.equal(decoder(wrong), decoder(clamped)):
            return False
    return True


class Found:
    """What the comparisons of one tokenizer came to."""

    def __init__(self, exported: Path) -> None:
        self.tokenizer = model.load(exported)
        self.encoder = torch.jit.load(exported / "encoder.pt")
        self.decoder = torch.jit.load(exported / "decoder.pt")
        self.tied = self.wrong = self.count = 0
        self.farthest, self.off = 0.0, 0

    def same_indices(self, pixels: torch.Tensor, ours: torch.Tensor, other: torch.Tensor) -> None:
        tied, wrong = ties(self.tokenizer, pixels, ours, other)
        self.tied, self.wrong = self.tied + tied, self.wrong + wrong

    def same_images(self, indices: torch.Tensor) -> torch.Tensor:
        """Returns those of pixtok_reader. A traced decoder takes all codebooks."""
        recon = self.tokenizer.decode(indices)
        if self.tokenizer.as_grid(indices).shape[3] == self.tokenizer.quantizer.codebooks:
            self.farthest = max(self.farthest, (recon - self.decoder(indices)).abs().max().item())
        return recon

    def same_set(self, data: Path, stored: Path, pictures: Path) -> None:
        """A set of tokens beside the images that it was made of and the pictures that were made of it."""
        prefix = tokens.read_sidecar(stored).get("prefix")
        for row in tokens.read_tokens(stored):
            pixels = image(data / f"{row['key']}.png")
            ours, indices = self.tokenizer.encode(pixels), torch.from_numpy(row["indices"])[None]
            whole = ours.clone()
            if prefix is None:
                whole = indices
                self.same_indices(pixels, ours, self.encoder(pixels))
            elif prefix["axis"] == "tokens":
                whole[:, : indices.shape[1]] = indices
            else:
                first = whole[..., : 1 if indices.ndim < whole.ndim else indices.shape[-1]]
                first.copy_(indices.view_as(first))
            self.same_indices(pixels, ours, whole)
            decoded = levels(image(pictures / f"{row['key']}.png"))
            self.off = max(self.off, (levels(self.same_images(indices)) - decoded).abs().max().item())
            self.count += 1

    def same_when_wide(self, pixels: torch.Tensor) -> None:
        """The same for an image and its mirror image side by side."""
        wide = torch.cat([pixels, pixels.flip(3)], 3)
        ours = self.tokenizer.encode(wide)
        self.same_indices(wide, ours, self.encoder(wide))
        self.same_images(ours)


def check(name: str, folder: Path, data: Path) -> bool:
    """One kind of tokenizer; says what was found."""
    config, settings, prefix = KINDS[name]
    train(folder / "run", config, *settings)
    pixtok("export", folder / "run", "--out", folder / "model")
    compute = ["--threads", "1"]
    sets = {"tokens": []} | ({} if prefix is None else {"prefix": ["--prefix", str(prefix)]})
    found = Found(folder / "model")
    for part, flags in sets.items():
        stored, pictures = folder / part, folder / f"pictures-{part}"
        pixtok("encode", folder / "run", "--data", data, "--out", stored, "--format", "npy", *flags, *compute)
        pixtok("decode", folder / "run", "--tokens", stored, "--out", pictures, *compute)
        found.same_set(data, stored, pictures)
    pixels = image(next(data.rglob("*.png")))
    if found.tokenizer.only_size is None:
        found.same_when_wide(pixels)
    strict = refuses_others(found.tokenizer, found.decoder, found.encoder(pixels))
    fine = found.count == len(sets) * COUNT and found.wrong == 0 and found.farthest <= 1e-4 and found.off <= 1
    print(
        f"{'OK' if fine and strict else 'DIFFERS':8} {name:10} {found.count} rows, {found.tied} ties,"
        f" {found.wrong} other indices; reconstructions within {found.farthest:.1e}, in 8 bits within"
        f" {found.off}; other ids are {'refused' if strict else 'TAKEN'}",
        flush=True,
    )
    return fine and strict


def write_sequences(folder: Path) -> None:
    """The toys with a sequence of tokens: pictures, and for each toy a model, tokens and reconstructions."""
    test = "tests::sequence::folders_for_python"
    command = ["cargo", "test", "--release", "--locked", "--lib", test, "--", "--exact", "--ignored"]
    environment = os.environ | {"PIXTOK_SEQUENCES": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode or "1 passed" not in done.stdout:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")


def refuses_network(folder: Path) -> bool:
    """Whether pixtok_reader says that it does not have a network. The toy's config names one that it has."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"model": {"kind": "linear"}}
    path.write_text(json.dumps(config))
    try:
        model.load(folder)
    except ValueError as error:
        return "model kind 'linear' is not known here" in str(error)
    return False


def check_sequence(name: str, folder: Path, data: Path) -> bool:
    """One toy with a sequence of tokens; says what was found."""
    encoder, decoder = (torch.jit.load(folder / f"model/{half}.pt") for half in ("encoder", "decoder"))
    other, off, count = 0, 0, 0
    for stored in tokens.READERS:
        for row in tokens.read_tokens(folder / stored):
            indices = torch.from_numpy(row["indices"])[None]
            other += not torch.equal(encoder(image(data / f"{row['key']}.png")), indices)
            decoded = levels(image(folder / f"pictures/{row['key']}.png"))
            off = max(off, (levels(decoder(indices)) - decoded).abs().max().item())
            count += 1
    strict = refuses_network(folder / "model")
    fine = count == 7 * len(tokens.READERS) and other == 0 and off <= 1 and strict
    print(
        f"{'OK' if fine else 'DIFFERS':8} {name:10} {count} rows of sequences, {other} with other indices;"
        f" reconstructions in 8 bits within {off}; its network is {'refused' if strict else 'TAKEN'}",
        flush=True,
    )
    return fine


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pixtok-python-") as scratch:
        data = Path(scratch) / "data"
        photographs(data, COUNT, [(64, 64)])
        wrong = [name for name in KINDS if not check(name, Path(scratch) / name, data)]
        sequences = Path(scratch) / "sequences"
        sequences.mkdir()
        write_sequences(sequences)
        toys = {f"{kind} in a sequence": sequences / kind for kind in ("fsq", "residual")}
        wrong += [name for name, toy in toys.items() if not check_sequence(name, toy, sequences / "images")]
    sys.exit(f"other in Python: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
