"""The convolutional network, pixtok's own and VQGAN's (`kind = "cnn"`), also with Cosmos' Haar transform."""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plan:
    """The widths and resolutions of the network."""

    only_size = tokens = None
    tail_drop = False

    def __init__(self, model: dict, image_size: list[int], natural_width: int) -> None:
        self.haar_levels = model.get("haar_levels", 0)
        # Of images, or of what the Haar transform makes of them.
        self.pixel_channels = 3 * 4**self.haar_levels
        self.stem = model["channels"]
        stages = len(model["multipliers"])
        self.widths = [self.stem * multiplier for multiplier in model["multipliers"]]
        decoder_multipliers = model.get("decoder_multipliers") or model["multipliers"]
        self.decoder_widths = [self.stem * multiplier for multiplier in decoder_multipliers]
        strides = model.get("strides") or [2] * (stages - 1)
        ups = model.get("decoder_strides") or strides
        # What follows each stage of the encoder, 1 for nothing, and each stage of the decoder. The one that
        # may be left out is that of the last stage, which in the decoder is the finest.
        self.strides = [*strides, 1][:stages]
        self.ups = [1, *ups][-stages:]
        self.res_blocks = per_stage(model["res_blocks"], stages)
        self.decoder_res_blocks = per_stage(model.get("decoder_res_blocks") or model["res_blocks"], stages)
        self.mid_attention = model["mid_attention"]
        # The details of VQGAN's published network.
        self.published = "vqgan" in (model.get("variant"), model.get("kind"))
        self.norm_groups = model.get("norm_groups") or (32 if self.published else None)
        # config.json states the groups at each width.
        stated = [part for part in (model.get("stem"), *model.get("stages", [])) if part]
        self.stated_groups = {part["channels"]: part["norm_groups"] for part in stated}
        width = model.get("latent_channels") or natural_width
        self.latent_channels = natural_width if self.published else width
        # Between the quantizer and this width stand 1x1 convolutions.
        self.outer_channels = width if self.published else None
        short_side = min(image_size) >> self.haar_levels
        sides = [short_side // math.prod(self.strides[:i]) for i in range(stages)]
        self.attention = [side in model["attention"] for side in sides]
        self.side_multiple = 2**self.haar_levels * math.prod(self.strides)

    def norm(self, channels: int) -> nn.GroupNorm:
        groups = self.stated_groups.get(channels) or self.norm_groups or min(max(channels // 4, 1), 32)
        return nn.GroupNorm(groups, channels, eps=1e-6 if self.published else 1e-5)

    def encoder(self) -> nn.Module:
        return encoder(self)

    def decoder(self) -> nn.Module:
        return decoder(self)


def per_stage(numbers: int | list[int], stages: int) -> list[int]:
    """A number for each stage, from one or a list of them."""
    return numbers if isinstance(numbers, list) else [numbers] * stages


def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=bias)


class ResBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, beside a shortcut. `norm` makes a normalisation over channels."""

    def __init__(
        self, norm: Callable[[int], nn.Module], channels_in: int, channels_out: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = conv(channels_in, channels_out, 3, bias=bias)
        self.norm2 = norm(channels_out)
        self.conv2 = conv(channels_out, channels_out, 3, bias=bias)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else conv(channels_in, channels_out, 1, bias=bias)

    def residue(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h)))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residue(x)


class Attention(nn.Module):
    """Single-head self-attention over all positions, added to its input."""

    def __init__(self, plan: Plan, channels: int) -> None:
        super().__init__()
        self.norm = plan.norm(channels)
        self.qkv = conv(channels, 3 * channels, 1)
        self.out = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        # [B, 3C, h, w] -> three of [B, 1, hw, C].
        q, k, v = self.qkv(self.norm(x)).view(b, 3, c, h * w).transpose(2, 3).unsqueeze(2).unbind(1)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.squeeze(1).transpose(1, 2).reshape(b, c, h, w))


class OneSidedDown(nn.Conv2d):
    """A 3x3 convolution of stride 2, padded only on the right and at the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Conv2d):
    """Nearest-neighbour upsampling and a 3x3 convolution."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        size = [side * self.factor for side in x.shape[2:]]
        return super().forward(F.interpolate(x, size, mode="nearest"))


class Haar(nn.Module):
    """A wavelet transform: at each level the mean of 2x2 pixels, and differences by row, column and both."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            even, odd = x[:, :, ::2], x[:, :, 1::2]
            a, b, c, d = even[..., ::2], even[..., 1::2], odd[..., ::2], odd[..., 1::2]
            x = torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1) / 4
        return x


class InverseHaar(Haar):
    """From the channels of `Haar` back to pixels."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            mean, rows, columns, both = x.chunk(4, 1)
            pixels = [
                mean + rows + columns + both,
                mean + rows - columns - both,
                mean - rows + columns - both,
                mean - rows - columns + both,
            ]
            x = F.pixel_shuffle(torch.stack(pixels, 2).flatten(1, 2), 2)
        return x


def stage_blocks(plan: Plan, channels_in: int, width: int, count: int, attention: bool) -> OrderedDict:
    """`count` residual blocks, each followed by attention where the plan has it."""
    blocks = OrderedDict()
    for i in range(count):
        blocks[f"res{i}"] = ResBlock(plan.norm, width if i else channels_in, width)
        if attention:
            blocks[f"attention{i}"] = Attention(plan, width)
    return blocks


def middle(plan: Plan, width: int) -> nn.Sequential:
    """Residual block, attention, residual block at the coarsest resolution, where the plan wants them."""
    if not plan.mid_attention:
        return nn.Sequential()
    parts = [ResBlock(plan.norm, width, width), Attention(plan, width), ResBlock(plan.norm, width, width)]
    return nn.Sequential(OrderedDict(zip(["res0", "attention", "res1"], parts)))


def encoder(plan: Plan) -> nn.Sequential:
    """[B, 3, H, W] -> [B, C, h, w]."""
    layers, channels = OrderedDict(), plan.stem
    if plan.haar_levels:
        layers["haar"] = Haar(plan.haar_levels)
    layers["stem"] = conv(plan.pixel_channels, plan.stem, 3)
    for i, (width, stride) in enumerate(zip(plan.widths, plan.strides)):
        blocks = stage_blocks(plan, channels, width, plan.res_blocks[i], plan.attention[i])
        channels = width
        if stride > 1:
            down = OneSidedDown(width) if plan.published else conv(width, width, max(stride | 1, 3), stride)
            blocks["down"] = down
        layers[f"stage{i}"] = nn.Sequential(blocks)
    layers |= dict(middle=middle(plan, channels), norm=plan.norm(channels), silu=nn.SiLU())
    if plan.outer_channels is None:
        layers["head"] = conv(channels, plan.latent_channels, 1)
    else:
        layers["head"] = conv(channels, plan.outer_channels, 3)
        layers["to_quantizer"] = conv(plan.outer_channels, plan.latent_channels, 1)
    return nn.Sequential(layers)


def decoder(plan: Plan) -> nn.Sequential:
    """[B, C, h, w] -> [B, 3, H, W]."""
    layers, channels = OrderedDict(), plan.decoder_widths[-1]
    if plan.outer_channels is not None:
        layers["from_quantizer"] = conv(plan.latent_channels, plan.outer_channels, 1)
    layers["stem"] = conv(plan.outer_channels or plan.latent_channels, channels, 3)
    layers["middle"] = middle(plan, channels)
    for i in reversed(range(len(plan.decoder_widths))):
        width = plan.decoder_widths[i]
        blocks = stage_blocks(plan, channels, width, plan.decoder_res_blocks[i], plan.attention[i])
        channels = width
        if plan.ups[i] > 1:
            blocks["up"] = Up(channels, plan.ups[i])
        layers[f"stage{i}"] = nn.Sequential(blocks)
    layers |= dict(norm=plan.norm(channels), silu=nn.SiLU(), head=conv(channels, plan.pixel_channels, 3))
    if plan.haar_levels:
        layers["haar"] = InverseHaar(plan.haar_levels)
    return nn.Sequential(layers)
