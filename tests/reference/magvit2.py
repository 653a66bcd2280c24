"""The network of Open-MAGVIT2, transcribed from TencentARC/SEED-Voken (src/Open_MAGVIT2/modules/diffusionmodules/improved_model.py) under
the original names, small, with its signs as LFQ takes them, and through `scripts/import_weights.py`.

Keys: those of `formula.py` under `magvit2/`, with images [2, 3, 20, 28]. `magvit2/parameters`: [1], those of the published size at f16.
"""

import torch
import torch.nn.functional as F
from torch import nn

from common import save
from formula import check_import, fill, images, record

# Channels, multipliers, residual blocks, z channels.
SMALL = (64, (1, 2, 1), 1, 6)
PUBLISHED = (128, (1, 1, 2, 2, 4), 4, 18)
CONFIG = 'model = { kind = "magvit2" }\nquantizer = { kind = "lfq" }\n'


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResBlock(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in), norm(channels_out)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


def blocks(count, channels_in, channels_out):
    return nn.ModuleList(ResBlock(channels_out if place else channels_in, channels_out) for place in range(count))


class Encoder(nn.Module):
    def __init__(self, channels, multipliers, count, z_channels):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.down, width = nn.ModuleList(), channels
        for level, multiplier in enumerate(multipliers):
            down = nn.Module()
            down.block = blocks(count, width, channels * multiplier)
            width = channels * multiplier
            if level < len(multipliers) - 1:
                down.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.down.append(down)
        self.mid_block = blocks(count, width, width)
        self.norm_out, self.conv_out = norm(width), nn.Conv2d(width, z_channels, 1)

    def forward(self, x):
        x = self.conv_in(x)
        for down in self.down:
            for block in down.block:
                x = block(x)
            x = down.downsample(x) if hasattr(down, "downsample") else x
        for block in self.mid_block:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Upsampler(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x):
        x = self.conv1(x)
        b, c, h, w = x.shape
        parts = x.view(b, 2, 2, c // 4, h, w)
        out = x.new_zeros(b, c // 4, 2 * h, 2 * w)
        for dy in range(2):
            for dx in range(2):
                out[:, :, dy::2, dx::2] = parts[:, dy, dx]
        return out


class AdaptiveGroupNorm(nn.Module):
    def __init__(self, z_channels, channels):
        super().__init__()
        self.gn = nn.GroupNorm(32, channels, eps=1e-6, affine=False)
        self.gamma, self.beta = nn.Linear(z_channels, channels), nn.Linear(z_channels, channels)

    def forward(self, x, z):
        scale = self.gamma((z.flatten(2).var(dim=-1) + 1e-6).sqrt())
        shift = self.beta(z.flatten(2).mean(dim=-1))
        return scale[:, :, None, None] * self.gn(x) + shift[:, :, None, None]


class Decoder(nn.Module):
    def __init__(self, channels, multipliers, count, z_channels):
        super().__init__()
        width = channels * multipliers[-1]
        self.conv_in = nn.Conv2d(z_channels, width, 3, padding=1)
        self.mid_block = blocks(count, width, width)
        ups, adaptive = [], []
        for level in reversed(range(len(multipliers))):
            up = nn.Module()
            adaptive.append(AdaptiveGroupNorm(z_channels, width))
            up.block = blocks(count, width, channels * multipliers[level])
            width = channels * multipliers[level]
            if level > 0:
                up.upsample = Upsampler(width)
            ups.append(up)
        self.up, self.adaptive = nn.ModuleList(ups[::-1]), nn.ModuleList(adaptive[::-1])
        self.norm_out, self.conv_out = norm(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        x = self.conv_in(z)
        for block in self.mid_block:
            x = block(x)
        for level in reversed(range(len(self.up))):
            x = self.adaptive[level](x, z)
            for block in self.up[level].block:
                x = block(x)
            x = self.up[level].upsample(x) if level > 0 else x
        return self.conv_out(F.silu(self.norm_out(x)))


class Tokenizer(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.encoder, self.decoder = Encoder(*sizes), Decoder(*sizes)

    def encode(self, x):
        return self.encoder(x)

    def quantize(self, latents):
        """The first channel is the lowest bit."""
        assert latents.abs().min() > 1e-4, "rounding could decide a sign: choose other images"
        bits = (latents > 0).long()
        places = 2 ** torch.arange(bits.shape[1])
        return (bits * places[:, None, None]).sum(1), bits * 2.0 - 1.0

    def decode(self, codes):
        return self.decoder(codes.to(torch.float64))

    @staticmethod
    def half(name):
        return name.split(".")[0]


def main():
    model = Tokenizer(SMALL).double()
    fill("magvit2", model)
    tensors = record("magvit2", "magvit2", model, images("magvit2", 2, 3, 20, 28))
    # As it is saved: the averages are the weights, and the discriminator is beside them.
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    averages = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in state.items()}
    others = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(-1), "loss.discriminator.main.0.weight": torch.zeros(3)}
    latest = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    check_import("magvit2", CONFIG, {"state_dict": latest | averages | others, "epoch": 3}, model)
    check_import("magvit2", CONFIG, {"state_dict": state}, model)
    with torch.device("meta"):
        published = Tokenizer(PUBLISHED)
    tensors["magvit2/parameters"] = torch.tensor([sum(parameter.numel() for parameter in published.parameters())])
    print("parameters", tensors["magvit2/parameters"].item())
    save("magvit2", tensors)


main()
