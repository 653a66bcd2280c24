"""What a user would write today to turn a folder of JPEGs into tokens: a DataLoader, PIL, a network in TorchScript.

    bench_encode_peer.py IMAGES ENCODER.pt OUT.npy SIZE BATCH WORKERS

Resizes the short side, cuts the centre, encodes, saves the indices. Prints the seconds from the first batch asked for to the
file saved: importing torch, loading the network and starting the workers are not counted.
"""

import pathlib
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

images, encoder, out = sys.argv[1:4]
size, batch, workers = map(int, sys.argv[4:7])
files = sorted(pathlib.Path(images).iterdir())
prepare = v2.Compose([v2.Resize(size, InterpolationMode.BICUBIC), v2.CenterCrop(size), v2.PILToTensor()])


class Images(Dataset):
    def __len__(self) -> int:
        return len(files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return prepare(Image.open(files[index]).convert("RGB"))


network = torch.jit.load(encoder).eval()
with torch.inference_mode():
    for _ in range(3):
        network(torch.zeros(batch, 3, size, size))
    loader = DataLoader(Images(), batch, num_workers=workers, persistent_workers=True)
    batches = iter(loader)
    began = time.monotonic()
    tokens = [network(pixels.float() / 127.5 - 1).to(torch.int32).numpy() for pixels in batches]
    np.save(out, np.concatenate(tokens))
    print(time.monotonic() - began)
