"""Quantizers: latents to indices and back.

Latents are [B, C, h, w], and the indices between quantizers always have the axis of the codebooks,
[B, h, w, codebooks]. A sequence of N tokens is a grid of one row, h = 1 and w = N. K codebook size, D code
dimension.

A quantizer has the number of its `codebooks`, the `fewest` of them from whose indices it makes a latent, and
`size`, the number of codes in each.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Under this length a vector has no direction.
MIN_NORM = 1e-6
# Most numbers in one table of distances.
TABLE = 1 << 24


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
    raise ValueError(f"quantizer kind {kind!r} is not known here; use the pixtok_reader of its pixtok")


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
        self.codebooks, self.fewest, self.size = 1, 1, size
        self.project_in = nn.Identity() if channels == dim else nn.Conv2d(channels, dim, 1)
        self.project_out = nn.Identity() if channels == dim else nn.Conv2d(dim, channels, 1)

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
                f"FSQ's bound {self.bound!r} is not known here; use the pixtok_reader of its pixtok"
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
    """Each part with its share of [B, h, w, codebooks]; the first parts, where there are fewer codebooks."""
    return list(zip(parts, indices.split(parts[0].codebooks, 3)))


class Residual(nn.Module):
    """Several stages, each of what the stages before left over; their codes add up."""

    def __init__(self, config: dict, channels: int) -> None:
        super().__init__()
        each, dim = config["each"], natural_width(config["each"])
        # The first stages make a latent of their own.
        self.codebooks, self.fewest = config["stages"], 1
        self.project_in = nn.Identity() if channels == dim else nn.Conv2d(channels, dim, 1)
        self.project_out = nn.Identity() if channels == dim else nn.Conv2d(dim, channels, 1)
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
        """[B, h, w, stages], or the first of them -> [B, C, h, w]."""
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
        self.codebooks = self.fewest = sum(group.codebooks for group in self.groups)

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
