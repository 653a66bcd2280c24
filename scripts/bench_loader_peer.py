#!/usr/bin/env python3
"""The PyTorch side of bench_loader.py: images a second of each epoch, from a folder of JPEGs (DataLoader) or of .tar shards (webdataset).

    bench_loader_peer.py DIR REPEAT WORKERS EPOCHS
"""

import json
import pathlib
import sys
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

SIZE, BATCH = 256, 32
prepare = v2.Compose(
    [v2.Resize(SIZE, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(SIZE), v2.PILToTensor()]
)


class Folder(Dataset):
    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return prepare(Image.open(self.files[i]).convert("RGB"))


def main():
    folder, (repeat, workers, epochs) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:])
    options = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    if tars := sorted(map(str, folder.glob("*.tar"))):
        import webdataset

        samples = webdataset.WebDataset(tars * repeat, shardshuffle=len(tars) * repeat).shuffle(1000).decode("pil")
        images = samples.to_tuple("jpg").map_tuple(lambda image: prepare(image.convert("RGB")))
        loader = DataLoader(images, collate_fn=lambda batch: torch.stack([image for (image,) in batch]), **options)
    else:
        loader = DataLoader(Folder(sorted(folder.rglob("*.jpg")) * repeat), shuffle=True, drop_last=True, **options)
    speeds = []
    for _ in range(epochs):
        start, images = time.time(), 0
        for batch in loader:
            images += len(batch)
            batch.float().div_(127.5).sub_(1)
        speeds.append(images / (time.time() - start))
    print(json.dumps({"images_per_sec": speeds}))


if __name__ == "__main__":
    main()
