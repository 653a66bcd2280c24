"""Tokenizers of pixtok in PyTorch: images to tokens and back.

    tokenizer = load("model-folder")                # what `pixtok export RUN --out model-folder` wrote
    indices = tokenizer.encode(images)              # [B, 3, H, W] in [-1, 1] -> int64 [B, h, w]
    images = tokenizer.decode(indices)              # raises for an index that no code has

The exported decoder.pt does not check indices: it uses the first code for an index below 0 and the last code for one
beyond K - 1. Check ids from elsewhere, such as a language model: `assert 0 <= indices.min() and indices.max() < K`.

One file, however long, that needs torch and safetensors: copy it where you need it. The modules have the names of the
tensors in model.safetensors, and the arithmetic has the form that pixtok's own has, so that the indices are
the same but for ties in the last bits. Bytes become images as `bytes / 127.5 - 1`. On CUDA, switch TF32 off
(`torch.backends.cudnn.allow_tf32 = False`) for the same indices.

Letters: B batch, C channels of the latent, H W pixels, h w latent grid, K codebook size, D code dimension.
The indices of a tokenizer with several codebooks have one axis more, [B, h, w, codebooks].
"""

import json
import math
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

# Under this length a vector has no direction.
MIN_NORM = 1e-6
# Most numbers in one table of distances.
TABLE = 1 << 24


def load(folder: str | Path) -> "Tokenizer":
    """The tokenizer of `folder`, which has model.safetensors and config.json (or config.toml), on the CPU."""
    folder = Path(folder)
    config = read_config(folder)
    try:
        tokenizer = Tokenizer(config["model"], config["quantizer"], config["image_size"])
    except KeyError as error:
        raise ValueError(f"the config in {folder} has no {error}; export the model again") from error
    try:
        tokenizer.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    except RuntimeError as error:
        raise ValueError(f"weights and config in {folder} are not of one model: {error}") from error
    return tokenizer.eval().requires_grad_(False)


def read_config(folder: Path) -> dict:
    """The sections `model` and `quantizer`, and `image_size` as [height, width]."""
    if (folder / "config.json").exists():
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    import tomllib  # from Python 3.11 on

    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    size = config["data"]["image_size"]
    return config | {"image_size": size if isinstance(size, list) else [size, size]}


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder."""

    def __init__(self, model: dict, quantizer: dict, image_size: list[int]) -> None:
        super().__init__()
        kind = model.get("kind", "cnn")
        if kind not in ("cnn", "vqgan"):
            raise ValueError(
                f"model kind {kind!r} is not known here; use the model.py of the pixtok that made it"
            )
        plan = Plan(model, image_size, natural_width(quantizer))
        self.encoder = encoder(plan)
        self.quantizer = build_quantizer(quantizer, plan.latent_channels)
        self.decoder = decoder(plan)
        self.downsample = math.prod(plan.strides)

    def latents(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, C, h, w]. The downsampling must divide H and W."""
        if any(side % self.downsample for side in images.shape[2:]):
            size, factor = list(images.shape[2:]), self.downsample
            raise ValueError(f"images of {size} pixels do not divide by {factor}; crop them")
        return self.encoder(images)

    def encode(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> int64 [B, h, w] (or [B, h, w, codebooks])."""
        z = self.latents(images)
        with torch.autocast(z.device.type, enabled=False):
            indices = self.quantizer.quantize(z.float())
        return indices.squeeze(3) if self.quantizer.codebooks == 1 else indices

    def decode(self, indices: Tensor) -> Tensor:
        """int64 [B, h, w] (or [B, h, w, codebooks]) -> [B, 3, H, W], about [-1, 1]; not clamped.

        Raises ValueError for an index that no code has, with its place. The check waits for a GPU; a trace skips it.
        """
        indices = indices.unsqueeze(3) if self.quantizer.codebooks == 1 else indices
        if indices.ndim != 4 or indices.shape[3] != self.quantizer.codebooks:
            codebooks = self.quantizer.codebooks
            raise ValueError(f"indices of shape {list(indices.shape)} are not for {codebooks} codebooks")
        if not torch.jit.is_tracing():
            self.check_range(indices)
        with torch.autocast(indices.device.type, enabled=False):
            z_q = self.quantizer.lookup(indices)
        return self.decoder(z_q)

    def check_range(self, indices: Tensor) -> None:
        """Raises ValueError for an index that no code has. [B, h, w, codebooks]."""
        size = self.quantizer.size
        wrong = ((indices < 0) | (indices >= size)).nonzero()
        if len(wrong) == 0:
            return
        place = wrong[0].tolist()
        shown = place[:3] if self.quantizer.codebooks == 1 else place
        raise ValueError(
            f"index {indices[tuple(place)].item()} at {shown} is none of the {size} codes, 0 to {size - 1}"
            f" ({len(wrong)} of {indices.numel()} are none); take offsets and special ids off first"
        )

    def codebook(self) -> Tensor:
        """The codes before the projection out, [K, D] (or [codebooks, K, D])."""
        codes = self.quantizer.all_codes()
        return codes[0] if self.quantizer.codebooks == 1 else codes


# ---- Encoder and decoder ----


class Plan:
    """The widths and resolutions of the network."""

    def __init__(self, model: dict, image_size: list[int], natural_width: int) -> None:
        self.stem = model["channels"]
        self.widths = [self.stem * multiplier for multiplier in model["multipliers"]]
        # Downsampling after each stage but the last.
        self.strides = model.get("strides") or [2] * (len(self.widths) - 1)
        self.res_blocks = model["res_blocks"]
        self.decoder_res_blocks = model.get("decoder_res_blocks") or self.res_blocks
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
        sides = [min(image_size) // math.prod(self.strides[:i]) for i in range(len(self.widths))]
        self.attention = [side in model["attention"] for side in sides]

    def norm(self, channels: int) -> nn.GroupNorm:
        groups = self.stated_groups.get(channels) or self.norm_groups or min(max(channels // 4, 1), 32)
        return nn.GroupNorm(groups, channels, eps=1e-6 if self.published else 1e-5)


def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2)


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, plan: Plan, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = plan.norm(channels_in)
        self.conv1 = conv(channels_in, channels_out, 3)
        self.norm2 = plan.norm(channels_out)
        self.conv2 = conv(channels_out, channels_out, 3)
        self.shortcut = nn.Identity() if channels_in == channels_out else conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


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
    """A 3x3 convolution of stride 2, padded on the right and below alone."""

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


def stage_blocks(plan: Plan, channels_in: int, number: int, count: int) -> OrderedDict:
    """`count` residual blocks at stage `number`, each followed by attention where the plan has it."""
    blocks, width = OrderedDict(), plan.widths[number]
    for i in range(count):
        blocks[f"res{i}"] = ResBlock(plan, width if i else channels_in, width)
        if plan.attention[number]:
            blocks[f"attention{i}"] = Attention(plan, width)
    return blocks


def middle(plan: Plan) -> nn.Sequential:
    """Residual block, attention, residual block at the coarsest resolution, where the plan wants them."""
    if not plan.mid_attention:
        return nn.Sequential()
    width = plan.widths[-1]
    parts = [ResBlock(plan, width, width), Attention(plan, width), ResBlock(plan, width, width)]
    return nn.Sequential(OrderedDict(zip(["res0", "attention", "res1"], parts)))


def encoder(plan: Plan) -> nn.Sequential:
    """[B, 3, H, W] -> [B, C, h, w]."""
    layers = OrderedDict(stem=conv(3, plan.stem, 3))
    channels = plan.stem
    for i, (width, stride) in enumerate(zip(plan.widths, [*plan.strides, 1])):
        blocks = stage_blocks(plan, channels, i, plan.res_blocks)
        channels = width
        if stride > 1:
            down = OneSidedDown(width) if plan.published else conv(width, width, max(stride | 1, 3), stride)
            blocks["down"] = down
        layers[f"stage{i}"] = nn.Sequential(blocks)
    layers |= dict(middle=middle(plan), norm=plan.norm(channels), silu=nn.SiLU())
    if plan.outer_channels is None:
        layers["head"] = conv(channels, plan.latent_channels, 1)
    else:
        layers["head"] = conv(channels, plan.outer_channels, 3)
        layers["to_quantizer"] = conv(plan.outer_channels, plan.latent_channels, 1)
    return nn.Sequential(layers)


def decoder(plan: Plan) -> nn.Sequential:
    """[B, C, h, w] -> [B, 3, H, W]."""
    channels = plan.widths[-1]
    layers = OrderedDict()
    if plan.outer_channels is not None:
        layers["from_quantizer"] = conv(plan.latent_channels, plan.outer_channels, 1)
    layers["stem"] = conv(plan.outer_channels or plan.latent_channels, channels, 3)
    layers["middle"] = middle(plan)
    for i in reversed(range(len(plan.widths))):
        blocks = stage_blocks(plan, channels, i, plan.decoder_res_blocks)
        channels = plan.widths[i]
        if i > 0 and plan.strides[i - 1] > 1:
            blocks["up"] = Up(channels, plan.strides[i - 1])
        layers[f"stage{i}"] = nn.Sequential(blocks)
    layers |= dict(norm=plan.norm(channels), silu=nn.SiLU(), head=conv(channels, 3, 3))
    return nn.Sequential(layers)


# ---- Quantizers; between them indices always have the axis of the codebooks ----


def natural_width(config: dict) -> int:
    """The channels that a quantizer works on without a projection."""
    match config["kind"]:
        case "fsq":
            return len(config["levels"])
        case "lfq" | "bsq":
            return config["bits"]
        case "residual":
            return natural_width(config["each"])
        case "grouped":
            return config["groups"] * natural_width(config["each"])
        case _:
            return config["codebook_dim"]


def build_quantizer(config: dict, channels: int, stage: int | None = None) -> nn.Module:
    """The quantizer for latents of `channels`; `stage` is its number inside a residual one."""
    kind = config["kind"]
    by_digits = {"fsq": Fsq, "lfq": Lfq, "bsq": Bsq}
    others = {"vq": Vq, "simvq": SimVq, "ibq": Ibq, "residual": Residual, "grouped": Grouped}
    if kind in by_digits:
        return by_digits[kind](config, channels, stage)
    if kind in others:
        return others[kind](config, channels)
    raise ValueError(
        f"quantizer kind {kind!r} is not known here; use the model.py of the pixtok that made it"
    )


def normalised(x: Tensor) -> Tensor:
    """The vectors along axis 1 at length 1."""
    return x / x.norm(2, 1, keepdim=True).clamp_min(MIN_NORM) + 0.0


def nearest(z: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """The first k with the least bias_k + z . weights_k. [B, D, h, w], [D, K], [K] -> [B, h, w]."""
    b, d, h, w = z.shape
    vectors = z.permute(0, 2, 3, 1).reshape(-1, d)
    parts = vectors.split(max(1, TABLE // len(bias)))
    return torch.cat([torch.addmm(bias, part, weights).argmin(1) for part in parts]).view(b, h, w)


class Single(nn.Module):
    """One codebook, with a 1x1 convolution in and out where the latent is not as wide as the codes."""

    def __init__(self, channels: int, size: int, dim: int) -> None:
        super().__init__()
        self.codebooks, self.size = 1, size
        self.project_in = nn.Identity() if channels == dim else conv(channels, dim, 1)
        self.project_out = nn.Identity() if channels == dim else conv(dim, channels, 1)

    def choose(self, z: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, h, w]."""
        raise NotImplementedError

    def codes(self, indices: Tensor) -> Tensor:
        """[B, h, w] -> [B, D, h, w]."""
        raise NotImplementedError

    def quantize(self, z: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, h, w, 1]."""
        return self.choose(self.project_in(z)).unsqueeze(3)

    def lookup(self, indices: Tensor) -> Tensor:
        """[B, h, w, 1] -> [B, C, h, w]."""
        return self.project_out(self.codes(indices.squeeze(3).clamp(0, self.size - 1)))

    def all_codes(self) -> Tensor:
        """[1, K, D]."""
        device = next(self.buffers(), next(self.parameters(), None)).device
        return self.codes(torch.arange(self.size, device=device).view(1, 1, -1))[:, :, 0].mT


class Digits(Single):
    """Codes that are made of digits, one for each dimension: index = sum of digit_i * basis_i."""

    def __init__(self, channels: int, levels: list[int], last_fastest: bool = False) -> None:
        super().__init__(channels, math.prod(levels), len(levels))
        places = range(len(levels))
        faster = [levels[i + 1 :] if last_fastest else levels[:i] for i in places]
        self.constant("levels", levels, torch.int64)
        self.constant("basis", [math.prod(few) for few in faster], torch.int64)

    def constant(self, name: str, values: list[float], dtype: torch.dtype = torch.float32) -> None:
        """Keeps one number for each dimension, [D, 1, 1], with the module but not in its state."""
        column = torch.tensor(values, dtype=torch.float64).to(dtype).view(-1, 1, 1)
        self.register_buffer(name, column, persistent=False)

    def indices_from_digits(self, digits: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, h, w]."""
        return (digits.long() * self.basis).sum(1).clamp(0, self.size - 1)

    def digits_from_indices(self, indices: Tensor) -> Tensor:
        """[B, h, w] -> [B, D, h, w]."""
        return (indices.unsqueeze(1) // self.basis) % self.levels


class Fsq(Digits):
    """Finite scalar quantization: each number is bounded and rounded to one of its levels."""

    def __init__(self, config: dict, channels: int, stage: int | None) -> None:
        levels = config["levels"]
        super().__init__(channels, levels)
        # A stage of a residual quantizer has a bound of its own, and codes that are L^stage times as fine.
        self.bound = config.get("bound", "tanh") if stage is None else "clamp"
        self.slope = config.get("slope", 1.0)
        if self.bound in ("tanh", "paper"):
            self.offset_grid(levels)
        elif self.bound in ("sigmoid", "clamp"):
            self.symmetric_grid(levels, stage or 0)
        else:
            raise ValueError(
                f"FSQ's bound {self.bound!r} is not known here; use the model.py of the pixtok that made it"
            )

    def offset_grid(self, levels: list[int]) -> None:
        """Digits from tanh(z + shift) * scale - offset: even levels lie half a step off the middle."""
        eps, inverse = (-1e-3, math.tan) if self.bound == "paper" else (1e-3, math.atanh)
        scales = [(level - 1) * (1 + eps) / 2 for level in levels]
        offsets = [0.0 if level % 2 else 0.5 for level in levels]
        # tanh(x) is 2 sigmoid(2x) - 1.
        self.constant("twice_shift", [2 * inverse(offset / scale) for offset, scale in zip(offsets, scales)])
        self.constant("twice_scale", [2 * scale for scale in scales])
        self.constant("scale_and_offset", [scale + offset for offset, scale in zip(offsets, scales)])
        for name in ("digit_of_zero", "centre", "half_width"):
            self.constant(name, [level // 2 for level in levels])

    def symmetric_grid(self, levels: list[int], stage: int) -> None:
        """Codes evenly in [-1, 1], or in the part of it that is left to a stage."""
        halves, zoom = [(level - 1) / 2 for level in levels], [level**stage for level in levels]
        self.constant("top", [level - 1 for level in levels])
        self.constant("zoom", zoom)
        self.constant("digit_of_zero", [0] * len(levels))
        self.constant("centre", halves)
        self.constant("half_width", [half * z for half, z in zip(halves, zoom)])

    def bounded(self, z: Tensor) -> Tensor:
        """The numbers in steps of one level, not yet rounded. [B, D, h, w] -> [B, D, h, w]."""
        if self.bound == "clamp":
            return ((z * self.zoom).clamp(-1, 1) + 1) * self.centre
        if self.bound == "sigmoid":
            return (z * self.slope).sigmoid() * self.top
        return (z * 2 + self.twice_shift).sigmoid() * self.twice_scale - self.scale_and_offset

    def choose(self, z: Tensor) -> Tensor:
        return self.indices_from_digits(self.bounded(z).round() + self.digit_of_zero)

    def codes(self, indices: Tensor) -> Tensor:
        return (self.digits_from_indices(indices) - self.centre) / self.half_width


class Lfq(Digits):
    """Lookup-free quantization: codes of +-scale in each dimension, chosen by the sign."""

    def __init__(self, config: dict, channels: int, stage: int | None) -> None:
        super().__init__(channels, [2] * config["bits"])
        self.scale = 2.0 ** -(stage or 0)

    def choose(self, z: Tensor) -> Tensor:
        return self.indices_from_digits(z > 0)

    def codes(self, indices: Tensor) -> Tensor:
        return (self.digits_from_indices(indices).float() * 2 - 1) * self.scale


class Bsq(Digits):
    """Binary spherical quantization: codes on the sphere, chosen by the sign of the latent on the sphere."""

    def __init__(self, config: dict, channels: int, stage: int | None) -> None:
        super().__init__(channels, [2] * config["bits"], last_fastest=True)
        self.radius = 2.0 ** -(stage or 0)
        self.scale = self.radius / math.sqrt(config["bits"])

    def choose(self, z: Tensor) -> Tensor:
        return self.indices_from_digits(normalised(z) * self.radius > 0)

    def codes(self, indices: Tensor) -> Tensor:
        return (self.digits_from_indices(indices).float() * 2 - 1) * self.scale


class Table(Single):
    """Codes that are made of the rows of a table."""

    def __init__(self, config: dict, channels: int, table: str) -> None:
        super().__init__(channels, config["codebook_size"], config["codebook_dim"])
        self.table = table
        self.register_buffer(table, torch.zeros(config["codebook_size"], config["codebook_dim"]))

    def as_codes(self, rows: Tensor) -> Tensor:
        """[n, D] -> [n, D]."""
        return rows

    def choose(self, z: Tensor) -> Tensor:
        # |z - e|^2 without |z|^2, which all codes share.
        codes = self.as_codes(getattr(self, self.table))
        return nearest(z, codes.T * -2.0, codes.square().sum(1))

    def codes(self, indices: Tensor) -> Tensor:
        codes = self.as_codes(getattr(self, self.table)[indices.reshape(-1)]) + 0.0
        return codes.view(*indices.shape, -1).permute(0, 3, 1, 2).contiguous()


class Vq(Table):
    """Vector quantization: the nearest code by distance or, with the cosine distance, by angle."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__(config, channels, "codebook")
        self.cosine = config["distance"] == "cosine"
        # Of training alone.
        self.register_buffer("counts", torch.zeros(self.size))
        self.register_buffer("started", torch.zeros(1))
        if config["codebook_update"]["kind"] == "ema":
            self.register_buffer("sums", torch.zeros_like(self.codebook))

    def as_codes(self, rows: Tensor) -> Tensor:
        return normalised(rows) if self.cosine else rows

    def choose(self, z: Tensor) -> Tensor:
        return super().choose(normalised(z) if self.cosine else z)


class SimVq(Table):
    """Vector quantization by a frozen table times a learned matrix."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__(config, channels, "frozen")
        dim = config["codebook_dim"]
        self.register_buffer("map", torch.zeros(dim, dim))
        self.register_buffer("map_bias", torch.zeros(dim) if config["bias"] else None)

    def as_codes(self, rows: Tensor) -> Tensor:
        return F.linear(rows, self.map, self.map_bias)


class Ibq(Table):
    """Index backpropagation quantization: the code with the largest product."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__(config, channels, "codebook")

    def choose(self, z: Tensor) -> Tensor:
        return nearest(z, self.codebook.T * -1.0, torch.zeros_like(self.codebook[:, 0]))


def indices_by_part(parts: nn.ModuleList, indices: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Each part with its share of [B, h, w, codebooks]."""
    return list(zip(parts, indices.split(parts[0].codebooks, 3)))


class Residual(nn.Module):
    """Several stages, each of what the stages before left over; their codes add up."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__()
        each, dim = config["each"], natural_width(config["each"])
        self.codebooks = config["stages"]
        self.project_in = nn.Identity() if channels == dim else conv(channels, dim, 1)
        self.project_out = nn.Identity() if channels == dim else conv(dim, channels, 1)
        self.stages = nn.ModuleList(build_quantizer(each, dim, stage) for stage in range(config["stages"]))
        limits = None
        if each["kind"] == "fsq":
            # Half a step beyond the outermost codes.
            limits = [level / (level - 1) for level in each["levels"]]
            limits = torch.tensor(limits, dtype=torch.float64).float().view(-1, 1, 1)
        self.register_buffer("limits", limits, persistent=False)

    @property
    def size(self) -> int:
        """Codes in each codebook."""
        return self.stages[0].size

    def quantize(self, z: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, h, w, stages]."""
        rest = self.project_in(z)
        if self.limits is not None:
            rest = (rest / self.limits).tanh() * self.limits
        indices = []
        for stage in self.stages:
            indices.append(stage.quantize(rest))
            rest = rest - stage.lookup(indices[-1])
        return torch.cat(indices, 3)

    def lookup(self, indices: Tensor) -> Tensor:
        """[B, h, w, stages] -> [B, C, h, w]."""
        codes = [stage.lookup(own) for stage, own in indices_by_part(self.stages, indices)]
        return self.project_out(sum(codes[1:], codes[0]))

    def all_codes(self) -> Tensor:
        """[stages, K, D]."""
        return torch.cat([stage.all_codes() for stage in self.stages])


class Grouped(nn.Module):
    """The channels in groups, each with a quantizer of its own."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__()
        each, groups = config["each"], config["groups"]
        self.groups = nn.ModuleList(build_quantizer(each, channels // groups) for _ in range(groups))
        self.codebooks = sum(group.codebooks for group in self.groups)

    @property
    def size(self) -> int:
        """Codes in each codebook."""
        return self.groups[0].size

    def quantize(self, z: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, h, w, codebooks], group after group."""
        channels = z.chunk(len(self.groups), 1)
        return torch.cat([group.quantize(own) for group, own in zip(self.groups, channels)], 3)

    def lookup(self, indices: Tensor) -> Tensor:
        """[B, h, w, codebooks] -> [B, C, h, w]."""
        return torch.cat([group.lookup(own) for group, own in indices_by_part(self.groups, indices)], 1)

    def all_codes(self) -> Tensor:
        """[codebooks, K, D]."""
        return torch.cat([group.all_codes() for group in self.groups])
