"""What a user would write today to train a ViT tokenizer: the program of train.py with a transformer over patches.

    vit.py --steps 20

The network is ViT-S/16 in either half, as `model.kind = "vit"` with size S builds it: RMS norms, SwiGLU, rotary positions in two
dimensions, and FSQ with 64,000 codes. 43,177,734 parameters, as `pixtok train --dry-run` counts. Prints one line of JSON: the median
step's images per second, and the parameters.
"""

import json
import random
import statistics

import torch
import torch.nn.functional as F
import train
from torch import nn
from vector_quantize_pytorch import FSQ

WIDTH, DEPTH, HEADS, HIDDEN, PATCH = 384, 12, 6, 1024, 16
EPS = 1e-6
# The base of the frequencies of the rotation.
BASE = 100.0
LEVELS = [8, 8, 8, 5, 5, 5]


def turns(grid: tuple[int, int], head_dim: int) -> torch.Tensor:
    """cos + i·sin of the angle by which each pair of a head's numbers turns at each position: [N, 1, head_dim / 2]. The first half of the
    pairs turns with the row, the second with the column."""
    d = head_dim // 2
    frequencies = BASE ** (-2 * torch.arange(d // 2) / d)
    rows, columns = torch.meshgrid(*map(torch.arange, grid), indexing="ij")
    angles = torch.cat([rows[..., None] * frequencies, columns[..., None] * frequencies], -1).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)


class Complex(nn.Module):
    """Turns queries and keys by a product of complex numbers, as Llama's reference does."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, heads, head_dim] -> the same."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.table).flatten(-2).to(x.dtype)


class Pairs(nn.Module):
    """The same in real numbers: x·cos + other·sin."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.register_buffer("cos", table.real.repeat_interleave(2, -1), persistent=False)
        self.register_buffer("sin", table.imag.repeat_interleave(2, -1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, heads, head_dim] -> the same."""
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        return x * self.cos + torch.stack((-second, first), -1).flatten(-2) * self.sin


ROTATIONS = {"complex": Complex, "pairs": Pairs}


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, rotation: nn.Module) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        query, key, value = (x.transpose(1, 2) for x in (rotation(query), rotation(key), value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))


class SwiGlu(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.RMSNorm(width, EPS)
        self.attention = Attention(width, heads)
        self.norm2 = nn.RMSNorm(width, EPS)
        self.feed_forward = SwiGlu(width, hidden)

    def forward(self, x: torch.Tensor, rotation: nn.Module) -> torch.Tensor:
        x = x + self.attention(self.norm1(x), rotation)
        return x + self.feed_forward(self.norm2(x))


class Trunk(nn.Module):
    def __init__(self, rotation: nn.Module):
        super().__init__()
        self.rotation = rotation
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, HIDDEN) for _ in range(DEPTH))
        self.norm = nn.RMSNorm(WIDTH, EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, self.rotation)
        return self.norm(x)


class Autoencoder(nn.Module):
    """For images of one size, whose rotation is computed once."""

    def __init__(self, size: int, rotation: str):
        super().__init__()
        self.side = size // PATCH
        table = turns((self.side, self.side), WIDTH // HEADS)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.encoder = Trunk(ROTATIONS[rotation](table))
        self.to_latent = nn.Linear(WIDTH, len(LEVELS))
        self.quantizer = FSQ(LEVELS)
        self.from_latent = nn.Linear(len(LEVELS), WIDTH)
        self.decoder = Trunk(ROTATIONS[rotation](table))
        self.to_pixels = nn.Linear(WIDTH, 3 * PATCH * PATCH)
        for trunk in (self.encoder, self.decoder):
            for layer in trunk.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """[B, 3, H, W] -> the reconstruction, the indices [B, N], and no loss of the quantizer."""
        z = self.to_latent(self.encoder(self.patches(images).flatten(2).transpose(1, 2)))
        # Index arithmetic is wrong in bf16.
        with torch.autocast("cpu", enabled=False):
            latent, indices = self.quantizer(z.float())
        pixels = self.to_pixels(self.decoder(self.from_latent(latent)))
        # [B, h, w, 3, p, p] -> [B, 3, h, p, w, p].
        patches = pixels.unflatten(1, (self.side, self.side)).unflatten(-1, (3, PATCH, PATCH))
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3), indices, 0.0


def main() -> None:
    parser = train.options()
    parser.add_argument("--rotation", choices=list(ROTATIONS), default="complex")
    parser.set_defaults(size=256, resize=256, batch=2, precision="fp32")
    args = train.parsed(parser)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    model = Autoencoder(args.size, args.rotation)
    seconds = train.train(model, args)
    print(
        json.dumps(
            {
                "images_per_sec": args.batch / statistics.median(seconds[args.skip :] or seconds),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
            }
        )
    )


if __name__ == "__main__":
    main()
