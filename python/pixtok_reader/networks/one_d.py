"""TiTok's network (`kind = "one-d"`): transformers over patches and latent tokens, which form a sequence.

P patches, N latent tokens.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from . import cnn
from .cnn import Up, conv
from .transformer import Block, BlockSettings, RotationSettings, padded, rotation

# The epsilon of every group normalisation in the decoder of the pixels.
GROUP_NORM_EPS = 1e-6


class Plan:
    """The sizes of the network."""

    def __init__(self, model: dict, image_size: list[int], natural_width: int) -> None:
        self.image_size = list(image_size)
        self.tokens, self.patch = model["latent_tokens"], model["patch"]
        self.latent_channels = model.get("latent_channels") or natural_width
        self.side_multiple = self.patch
        self.legacy = model["layout"] == "legacy"
        self.tail_drop = model.get("tail_drop") is not None
        self.pixel_decoder = model.get("pixel_decoder")
        self.sizes = {
            half: [model[prefix + name] for name in ("width", "depth", "heads")]
            for half, prefix in (("encoder", ""), ("decoder", "decoder_"))
        }
        self.grid = model["trained_grid"]
        # Learned positions are of one size.
        self.learned, self.extension = model["positions"] == "learned", model["extension"]
        self.rope_base = None if self.learned else model["rope_base"]
        self.only_size = self.image_size if self.learned else None

    def rotation(self, half: str) -> RotationSettings | None:
        """How this half turns patches, or None where it adds learned positions."""
        width, _, heads = self.sizes[half]
        if self.learned:
            return None
        return RotationSettings(self.rope_base, width // heads, tuple(self.grid), self.extension)

    def encoder(self) -> nn.Module:
        return Encoder(self)

    def decoder(self) -> nn.Module:
        return Decoder(self)


class Transformer(nn.Module):
    """Blocks over a class token, the patches and the latent tokens, in this order."""

    def __init__(self, plan: Plan, half: str) -> None:
        super().__init__()
        width, depth, heads = plan.sizes[half]
        h, w = plan.grid
        self.width, self.tokens = width, plan.tokens
        self.turned = plan.rotation(half)
        self.class_token = nn.Parameter(torch.zeros(1, width))
        # Of the class token and the patches.
        self.positions = nn.Parameter(torch.zeros(1 + h * w, width)) if self.turned is None else None
        self.latent_positions = nn.Parameter(torch.zeros(plan.tokens, width))
        self.norm_in = nn.LayerNorm(width)
        settings = BlockSettings(width, heads, hidden=4 * width)
        self.blocks = [f"block{i}" for i in range(depth)]
        for name in self.blocks:
            self.add_module(name, Block(settings))
        self.norm_out = nn.LayerNorm(width)

    def transformed(self, patches: Tensor, latents: Tensor, h: int, w: int) -> Tensor:
        """Patches [B, P, width] and latent tokens [B, N, width] after all blocks -> [B, 1 + P + N, width]."""
        x = torch.cat([self.class_token.expand(len(patches), 1, -1), patches], 1)
        turns = None
        if self.turned is None:
            x = x + self.positions
        else:
            turns = padded(rotation(self.turned, h, w, x), 1, self.tokens)
        x = self.norm_in(torch.cat([x, latents + self.latent_positions], 1))
        for name in self.blocks:
            x = getattr(self, name)(x, turns)
        return x


class Encoder(Transformer):
    """[B, 3, H, W] -> [B, C, 1, N]: of what the transformer makes, the latent tokens."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "encoder")
        self.legacy = plan.legacy
        self.stem = nn.Conv2d(3, self.width, plan.patch, plan.patch)
        self.latent_tokens = nn.Parameter(torch.zeros(plan.tokens, self.width))
        self.head = nn.Linear(self.width, plan.latent_channels)

    def forward(self, images: Tensor) -> Tensor:
        # The network's images are in [0, 1].
        features = self.stem(images * 0.5 + 0.5)
        b, _, h, w = features.shape
        patches = features.flatten(2).transpose(1, 2)
        x = self.transformed(patches, self.latent_tokens.expand(b, -1, -1), h, w)
        x = self.norm_out(x[:, -self.tokens :])
        if self.legacy:
            # Not a transposition: the first numbers of a latent's width are those of the first tokens.
            x = x.reshape(b, self.width, self.tokens).transpose(1, 2)
        return self.head(x).transpose(1, 2).unsqueeze(2)


class Decoder(Transformer):
    """[B, C, 1, N], and the size of images -> [B, 3, H, W]: of what the transformer makes, the patches."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "decoder")
        self.legacy, self.patch = plan.legacy, plan.patch
        self.stem = nn.Linear(plan.latent_channels, self.width)
        self.mask_token = nn.Parameter(torch.zeros(1, self.width))
        if plan.legacy:
            self.codes = Codes(self.width, plan.pixel_decoder)
            self.pixels = pixel_decoder(plan.pixel_decoder)
        else:
            self.pixels = nn.Linear(self.width, 3 * plan.patch**2)
            self.head = conv(3, 3, 3)

    def forward(self, z_q: Tensor, size: list[int]) -> Tensor:
        h, w = (side // self.patch for side in size)
        latents = self.stem(z_q.squeeze(2).transpose(1, 2))
        x = self.transformed(self.mask_token.expand(len(latents), h * w, -1), latents, h, w)
        x = self.norm_out(x[:, 1 : 1 + h * w])
        if self.legacy:
            images = self.pixels(self.codes(x).transpose(1, 2).unflatten(2, (h, w)))
        else:
            # The numbers of a patch are in the order of its rows, columns and colours.
            patches = self.pixels(x).view(-1, h, w, self.patch, self.patch, 3)
            images = self.head(patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3))
        return images * 2 - 1


class Codes(nn.Module):
    """The mean of a second codebook's codes, by the softmax of their logits. [B, P, width] -> [B, P, D]."""

    def __init__(self, width: int, config: dict) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 2 * width)
        self.logits = nn.Linear(2 * width, config["codes"])
        self.codebook = nn.Parameter(torch.zeros(config["codes"], config["code_dim"]))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.hidden(x).tanh()).softmax(-1) @ self.codebook


class ResBlock(cnn.ResBlock):
    """One without biases. If the widths differ, its shortcut is a convolution of the result."""

    def __init__(self, norm: Callable[[int], nn.Module], channels_in: int, channels_out: int) -> None:
        super().__init__(norm, channels_in, channels_out, bias=False)
        self.same = channels_in == channels_out
        if not self.same:
            self.shortcut = conv(channels_out, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.residue(x)
        return h + (x if self.same else self.shortcut(h))


def pixel_decoder(config: dict) -> nn.Sequential:
    """The decoder of MaskGIT-VQGAN. [B, D, h, w] -> [B, 3, H, W] in about [0, 1]."""
    norm = partial(nn.GroupNorm, config["norm_groups"], eps=GROUP_NORM_EPS)
    widths = [config["channels"] * multiplier for multiplier in config["multipliers"]]
    channels = widths[-1]

    def blocks(width: int) -> OrderedDict:
        count = config["res_blocks"]
        return OrderedDict((f"res{i}", ResBlock(norm, width if i else channels, width)) for i in range(count))

    layers = OrderedDict(stem=conv(config["code_dim"], channels, 3), middle=nn.Sequential(blocks(channels)))
    for i in reversed(range(len(widths))):
        stage = blocks(widths[i])
        channels = widths[i]
        if i > 0:
            stage["up"] = Up(channels, 2)
        layers[f"stage{i}"] = nn.Sequential(stage)
    layers |= dict(norm=norm(channels), silu=nn.SiLU(), head=conv(channels, 3, 3))
    return nn.Sequential(layers)
