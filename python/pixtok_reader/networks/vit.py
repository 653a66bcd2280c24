"""The vision transformer (`kind = "vit"`): one token for each patch.

P patches of h rows and w columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cnn import conv
from .transformer import Block, BlockSettings, RotationSettings, norm, padded, rotation


class Plan:
    """The sizes of the network."""

    tokens = None
    tail_drop = False

    def __init__(self, model: dict, image_size: list[int], natural_width: int) -> None:
        self.patch, self.registers = model["patch"], model["registers"]
        self.side_multiple = self.patch
        self.head_conv = model["head_conv"]
        self.latent_channels = model.get("latent_channels") or natural_width
        self.depths, self.blocks = {}, {}
        for half, prefix in ("encoder", ""), ("decoder", "decoder_"):
            self.depths[half] = model[f"{prefix}depth"]
            self.blocks[half] = BlockSettings(
                width=model[f"{prefix}width"],
                heads=model[f"{prefix}heads"],
                hidden=model[f"{prefix}hidden"],
                norm=model["norm"],
                eps=model["eps"],
                feed_forward=model["feed_forward"],
                attention_norm=model["attention_norm"],
                layer_scale=model.get("layer_scale") is not None,
            )
        self.grid = model["trained_grid"]
        self.learned, self.extension = model["positions"] == "learned", model["extension"]
        self.rope_base = None if self.learned else model["rope_base"]
        if self.learned and self.extension == "ntk":
            raise ValueError("learned positions are not extended by ntk; choose none or interpolate")
        self.only_size = list(image_size) if self.learned and self.extension == "none" else None

    def rotation(self, half: str) -> RotationSettings | None:
        """How this half turns patches, or None where it adds learned positions."""
        if self.learned:
            return None
        head_dim = self.blocks[half].width // self.blocks[half].heads
        return RotationSettings(self.rope_base, head_dim, tuple(self.grid), self.extension)

    def encoder(self) -> nn.Module:
        return Encoder(self)

    def decoder(self) -> nn.Module:
        return Decoder(self)


class Transformer(nn.Module):
    """Positions, registers, blocks and the last normalisation."""

    def __init__(self, plan: Plan, half: str) -> None:
        super().__init__()
        settings = plan.blocks[half]
        width = self.width = settings.width
        self.grid, self.turned, self.count = list(plan.grid), plan.rotation(half), plan.registers
        self.extension = plan.extension
        h, w = plan.grid
        self.positions = nn.Parameter(torch.zeros(h * w, width)) if plan.learned else None
        self.registers = nn.Parameter(torch.zeros(plan.registers, width)) if plan.registers else None
        self.blocks = [f"block{i}" for i in range(plan.depths[half])]
        for name in self.blocks:
            self.add_module(name, Block(settings))
        self.norm = norm(settings.norm, width, settings.eps)

    def transformed(self, x: Tensor, h: int, w: int) -> Tensor:
        """What the blocks make of patches [B, P, width] -> the same shape."""
        turns = None
        if self.turned is None:
            x = x + self.learned_positions(h, w)
        else:
            turns = padded(rotation(self.turned, h, w, x), self.count, 0)
        if self.registers is not None:
            x = torch.cat([self.registers.expand(len(x), -1, -1), x], 1)
        for name in self.blocks:
            x = getattr(self, name)(x, turns)
        return self.norm(x[:, self.count :])

    def learned_positions(self, h: int, w: int) -> Tensor:
        """[P, width]; at other sizes than the trained one between those that were learned."""
        if [h, w] == self.grid:
            return self.positions
        if self.extension != "interpolate":
            raise ValueError(
                f"a grid of {h} x {w} has no learned positions, {self.grid} has; load with interpolate"
            )
        table = self.positions.T.unflatten(1, self.grid).unsqueeze(0)
        return F.interpolate(table, (h, w), mode="bicubic")[0].flatten(1).T


class Encoder(Transformer):
    """[B, 3, H, W] -> [B, C, h, w]."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "encoder")
        self.stem = nn.Conv2d(3, self.width, plan.patch, plan.patch)
        self.head = nn.Linear(self.width, plan.latent_channels)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        h, w = features.shape[2:]
        x = self.transformed(features.flatten(2).transpose(1, 2), h, w)
        return self.head(x).transpose(1, 2).unflatten(2, (h, w))


class Decoder(Transformer):
    """[B, C, h, w] -> [B, 3, H, W]."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "decoder")
        self.stem = nn.Linear(plan.latent_channels, self.width)
        # To the pixels of a patch: colour by colour, each row by row.
        self.head = nn.Linear(self.width, 3 * plan.patch**2)
        self.to_image = nn.PixelShuffle(plan.patch)
        self.conv = conv(3, 3, 3) if plan.head_conv else nn.Identity()

    def forward(self, z_q: Tensor) -> Tensor:
        h, w = z_q.shape[2:]
        x = self.transformed(self.stem(z_q.flatten(2).transpose(1, 2)), h, w)
        return self.conv(self.to_image(self.head(x).transpose(1, 2).unflatten(2, (h, w))))
