"""The network of Open-MAGVIT2, WeTok and BitDance (`kind = "magvit2"`)."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from .cnn import ResBlock, conv


class Plan:
    """The widths of the network."""

    only_size = tokens = None
    tail_drop = False

    def __init__(self, model: dict, image_size: list[int], natural_width: int) -> None:
        self.stem = model["channels"]
        self.widths = [self.stem * multiplier for multiplier in model["multipliers"]]
        self.res_blocks = model["res_blocks"]
        self.latent_channels = model.get("latent_channels") or natural_width
        self.norm_groups, self.eps = model["norm_groups"], model["eps"]
        self.side_multiple = 2 ** (len(self.widths) - 1)

    def norm(self, channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.norm_groups, channels, self.eps)

    def blocks(self, channels_in: int, width: int) -> OrderedDict:
        """The residual blocks of a stage."""
        names = [f"res{i}" for i in range(self.res_blocks)]
        widths = [channels_in] + [width] * (self.res_blocks - 1)
        return OrderedDict(
            (name, ResBlock(self.norm, before, width, bias=False)) for name, before in zip(names, widths)
        )

    def encoder(self) -> nn.Module:
        return encoder(self)

    def decoder(self) -> nn.Module:
        return Decoder(self)


def encoder(plan: Plan) -> nn.Sequential:
    """[B, 3, H, W] -> [B, C, h, w]."""
    layers, channels = OrderedDict(stem=conv(3, plan.stem, 3, bias=False)), plan.stem
    for i, width in enumerate(plan.widths):
        stage = plan.blocks(channels, width)
        channels = width
        if i < len(plan.widths) - 1:
            stage["down"] = conv(width, width, 3, stride=2)
        layers[f"stage{i}"] = nn.Sequential(stage)
    layers["middle"] = nn.Sequential(plan.blocks(channels, channels))
    layers |= dict(norm=plan.norm(channels), silu=nn.SiLU(), head=conv(channels, plan.latent_channels, 1))
    return nn.Sequential(layers)


class Decoder(nn.Module):
    """[B, C, h, w] -> [B, 3, H, W]. Each stage begins with a normalisation by the whole latent."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.eps = plan.eps
        channels = plan.widths[-1]
        self.stem = conv(plan.latent_channels, channels, 3)
        self.middle = nn.Sequential(plan.blocks(channels, channels))
        self.stages = [f"stage{i}" for i in reversed(range(len(plan.widths)))]
        for name, width in zip(self.stages, reversed(plan.widths)):
            self.add_module(name, Stage(plan, channels, width, finest=name == self.stages[-1]))
            channels = width
        self.norm = plan.norm(channels)
        self.head = conv(channels, 3, 3)

    def forward(self, z_q: Tensor) -> Tensor:
        # Of each channel over the positions of an image.
        deviation, mean = (z_q.var((2, 3)) + self.eps).sqrt(), z_q.mean((2, 3))
        x = self.middle(self.stem(z_q))
        for name in self.stages:
            x = getattr(self, name)(x, deviation, mean)
        return self.head(F.silu(self.norm(x)))


class Stage(nn.Module):
    """One resolution of the decoder, and the step to the next finer one."""

    def __init__(self, plan: Plan, channels_in: int, width: int, finest: bool) -> None:
        super().__init__()
        self.adaptive = AdaptiveNorm(plan, channels_in)
        blocks = plan.blocks(channels_in, width)
        self.blocks = list(blocks)
        for name, block in blocks.items():
            self.add_module(name, block)
        self.up = None if finest else Up(width)

    def forward(self, x: Tensor, deviation: Tensor, mean: Tensor) -> Tensor:
        x = self.adaptive(x, deviation, mean)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return x if self.up is None else self.up(x)


class AdaptiveNorm(nn.Module):
    """Group normalisation, then gamma(deviation) * x + beta(mean) of the latent's channels, [B, C] each."""

    def __init__(self, plan: Plan, channels: int) -> None:
        super().__init__()
        self.groups, self.eps = plan.norm_groups, plan.eps
        self.gamma = nn.Linear(plan.latent_channels, channels)
        self.beta = nn.Linear(plan.latent_channels, channels)

    def forward(self, x: Tensor, deviation: Tensor, mean: Tensor) -> Tensor:
        scale, shift = self.gamma(deviation)[:, :, None, None], self.beta(mean)[:, :, None, None]
        return F.group_norm(x, self.groups, eps=self.eps) * scale + shift


class Up(nn.Conv2d):
    """A 3x3 convolution to channels (dy, dx, c), which become two by two positions of c."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = super().forward(x).reshape(b, 2, 2, c, h, w)
        return parts.permute(0, 3, 4, 1, 5, 2).reshape(b, c, 2 * h, 2 * w)
