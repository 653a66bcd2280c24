"""What a user would write today to train the yardstick: PyTorch, a DataLoader with PIL, vector-quantize-pytorch.

    train.py --quantizer fsq --steps 60

Network, data, schedule and clipping are those of `configs/photos96-fsq.toml` and `photos96-vq.toml`. With `--recipe quickstart`
they are those of `configs/quickstart-fsq.toml` and `quickstart-vq.toml`: Muon for the convolutions between feature maps, and
restart of VQ's dead codes. Prints a line after the first step, and a line of JSON at the end: images per second in the median
step, and with `--evaluate` psnr_db on the validation images (as bytes, per image, then averaged) and codebook usage.
"""

import argparse
import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from autoencoder import fsq, vq
from PIL import Image
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

# Of the activations: as the layers leave them (after the quantizer, whose latent is a transposed one, that is channels_last),
# the plain one everywhere, or channels_last everywhere. Which is faster depends on the processor.
LAYOUTS = ["default", "plain", "channels-last"]

# The peak learning rate for Muon, whose step is scaled to the matrix size.
MUON_LR = 0.02

PHOTOS = Path(__file__).resolve().parents[2] / "data/photos96"


class Photos(Dataset):
    """Square crops in [-1, 1]: at random, half of them mirrored, to train; of the centre otherwise."""

    def __init__(self, root: Path, size: int, train: bool, resize: int | None = None):
        self.files = sorted(root.rglob("*.jpg"))
        self.size = size
        self.train = train
        # The length of the short side before the crop; None: the photograph's own.
        self.resize = resize

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(self.files[index]).convert("RGB")
        if self.resize:
            scale = self.resize / min(image.size)
            image = image.resize([round(scale * side) for side in image.size], Image.Resampling.LANCZOS)
        room_x, room_y = image.width - self.size, image.height - self.size
        x, y = (random.randint(0, room_x), random.randint(0, room_y)) if self.train else (room_x // 2, room_y // 2)
        image = image.crop((x, y, x + self.size, y + self.size))
        if self.train and random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def endless(loader: DataLoader):
    for epoch in itertools.count():
        if isinstance(loader.sampler, DistributedSampler):
            loader.sampler.set_epoch(epoch)
        yield from loader


class Matrix(nn.Module):
    """A convolution's weight as the matrix [out, in * kernel] that `torch.optim.Muon` needs."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape = shape

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.view(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flatten(1)


def optimizers_of(model: torch.nn.Module, args: argparse.Namespace) -> list[tuple[torch.optim.Optimizer, float]]:
    """The optimizers, each with its peak learning rate."""
    hidden = []
    if args.recipe == "quickstart":
        of_pixels = [model.encoder[0], model.decoder[-1]]
        for module in list(model.modules()):
            if isinstance(module, nn.Conv2d) and module not in of_pixels:
                parametrize.register_parametrization(module, "weight", Matrix(module.weight.shape))
                hidden.append(module.parametrizations.weight.original)
    others = [p for p in model.parameters() if all(p is not one for one in hidden)]
    adamw = torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    if not hidden:
        return [(adamw, args.lr)]
    return [(adamw, args.lr), (torch.optim.Muon(hidden, lr=MUON_LR, weight_decay=1e-4), MUON_LR)]


def factor(args: argparse.Namespace, step: int) -> float:
    warmup = min(1, (step + 1) / 50)
    return warmup * (0.5 + 0.5 * math.cos(math.pi * step / args.schedule_steps))


def train(
    model: nn.Module, args: argparse.Namespace, wrap: Callable[[nn.Module], nn.Module] | None = None, sampler: Sampler | None = None
) -> list[float]:
    """Trains, and returns the seconds of each step, its wait for the images included. The forward pass is that of the model as `wrap`
    returns it, if it is given; the images are those of `sampler`, or all of them."""
    # Before the wrapping: with Muon they replace parameters.
    optimizers = optimizers_of(model, args)
    forward = wrap(model) if wrap else torch.compile(model) if args.compile else model
    loader = DataLoader(
        Photos(PHOTOS / "train", args.size, train=True, resize=args.resize),
        args.batch,
        shuffle=sampler is None,
        sampler=sampler,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    model.train()
    batches = itertools.repeat(next(iter(loader))) if args.one_batch else endless(loader)
    seconds = []
    last = time.perf_counter()
    for step, images in zip(range(args.steps), batches):
        if args.layout == "channels-last":
            images = images.to(memory_format=torch.channels_last)
        for optimizer, lr in optimizers:
            optimizer.param_groups[0]["lr"] = lr * factor(args, step)
        # Before the forward pass, so that gradients and activations are not in memory together.
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            recon, _, quantizer_loss = forward(images)
            loss = F.mse_loss(recon.float(), images) + quantizer_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        for optimizer, _ in optimizers:
            optimizer.step()
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
        if step == 0:
            print("first step", flush=True)
    return seconds


@torch.no_grad()
def evaluate(model: torch.nn.Module, codes: int, size: int) -> dict[str, float]:
    def as_bytes(x: torch.Tensor) -> torch.Tensor:
        return ((x.clamp(-1, 1) + 1) * 127.5).round()

    model.eval()
    psnr_db = []
    hits = torch.zeros(codes)
    for images in DataLoader(Photos(PHOTOS / "val", size, train=False), 32):
        recon, indices, _ = model(images)
        hits += torch.bincount(indices.flatten().long(), minlength=codes)
        error = (as_bytes(recon) - as_bytes(images)).square().flatten(1).mean(1)
        psnr_db += (10 * torch.log10(255**2 / error.clamp_min(1e-10))).tolist()
    return {"psnr_db": statistics.mean(psnr_db), "usage": (hits > 0).float().mean().item()}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantizer", choices=["fsq", "vq"], default="fsq")
    parser.add_argument("--recipe", choices=["yardstick", "quickstart"], default="yardstick")
    parser.add_argument("--levels", type=int, nargs="+", default=[8, 5, 5, 5])
    parser.add_argument("--codebook-size", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="pixels of a crop")
    parser.add_argument("--resize", type=int, help="of the short side before the crop")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--schedule-steps", type=int, default=600, help="the steps after which the learning rate is 0")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--layout", choices=LAYOUTS, default="default")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--one-batch", action="store_true", help="the same one at every step: no loader in the step's time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", type=int, default=10, help="steps at the beginning that do not count")
    parser.add_argument("--evaluate", action="store_true")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    args.bf16 = args.precision == "bf16"
    return args


def arguments() -> argparse.Namespace:
    return parsed(options())


def build(args: argparse.Namespace) -> tuple[nn.Module, int]:
    """The network, and how many codes it has."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    if args.quantizer == "fsq":
        model, codes = fsq(args.channels, args.levels)
    else:
        model, codes = vq(args.channels, args.codebook_size, restart=args.recipe == "quickstart")
    model.plain_latent = args.layout == "plain"
    if args.layout == "channels-last":
        model = model.to(memory_format=torch.channels_last)
    return model, codes


def main() -> None:
    args = arguments()
    model, codes = build(args)
    seconds = train(model, args)
    figures = {
        "images_per_sec": args.batch / statistics.median(seconds[args.skip :] or seconds),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if args.evaluate:
        figures |= evaluate(model, codes, args.size)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
