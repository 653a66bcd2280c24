"""What a user would write today to read JPEGs for training: a DataLoader, of files or of WebDataset shards.

    load.py FOLDER --epochs 3 --repeat 8

Resizes the short side (antialiased bicubic), cuts the centre, makes batches of bytes. Prints one line of JSON: images per
second of each epoch, the start of the workers in the first.
"""

import argparse
import io
import json
import time
from pathlib import Path

import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2


def with_pil(file: Path | io.BytesIO) -> Image.Image:
    return Image.open(file).convert("RGB")


def with_torchvision(encoded: torch.Tensor) -> torch.Tensor:
    return decode_jpeg(encoded, ImageReadMode.RGB)


class Files(Dataset):
    def __init__(self, files: list[Path], decoder: str, prepare: v2.Transform):
        self.files = files
        self.decoder = decoder
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.files[index]
        image = with_pil(path) if self.decoder == "pil" else with_torchvision(read_file(str(path)))
        return self.prepare(image)


class Sample:
    """The same of a sample of a shard, whose JPEG is bytes."""

    def __init__(self, decoder: str, prepare: v2.Transform):
        self.decoder = decoder
        self.prepare = prepare

    def __call__(self, sample: dict) -> torch.Tensor:
        jpeg = sample["jpg"]
        if self.decoder == "pil":
            return self.prepare(with_pil(io.BytesIO(jpeg)))
        return self.prepare(with_torchvision(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8)))


def shard_loader(shards: list[Path], args: argparse.Namespace, prepare: v2.Transform) -> webdataset.WebLoader:
    """Each worker reads whole shards; batches are made in the workers, as its documentation advises."""
    dataset = webdataset.WebDataset([str(shard) for shard in shards] * args.repeat, shardshuffle=False)
    dataset = dataset.map(Sample(args.decoder, prepare)).batched(args.batch, collation_fn=torch.stack)
    return webdataset.WebLoader(dataset, batch_size=None, num_workers=args.workers, persistent_workers=True)


def file_loader(folder: Path, args: argparse.Namespace, prepare: v2.Transform) -> DataLoader:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    dataset = Files(files * args.repeat, args.decoder, prepare)
    return DataLoader(dataset, args.batch, num_workers=args.workers, persistent_workers=True, drop_last=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of JPEGs or of .tar shards")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=1, help="times that an epoch goes through the folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--decoder", choices=["pil", "torchvision"], default="pil")
    args = parser.parse_args()
    steps = [v2.Resize(args.size, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(args.size)]
    # An image that torchvision decoded is a tensor already.
    steps += [v2.PILToTensor()] if args.decoder == "pil" else []
    prepare = v2.Compose(steps)
    shards = sorted(args.folder.glob("*.tar"))
    loader = shard_loader(shards, args, prepare) if shards else file_loader(args.folder, args, prepare)
    rates = []
    for _ in range(args.epochs):
        began = time.perf_counter()
        images = sum(len(batch) for batch in loader)
        rates.append(images / (time.perf_counter() - began))
    print(json.dumps({"images_per_sec": rates}))


if __name__ == "__main__":
    main()
