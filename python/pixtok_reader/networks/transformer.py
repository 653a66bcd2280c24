"""The layers of transformers: blocks, and rotary positions in two dimensions.

N positions, d numbers of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The least length that a key is divided by.
LEAST_KEY = 1e-12

# Cosines and sines of all positions, [N, d] each.
Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a half have in common."""

    width: int
    heads: int
    # The width inside the feed-forward part.
    hidden: int
    # "layer" or "rms".
    norm: str = "layer"
    eps: float = 1e-5
    # "gelu" or "swiglu".
    feed_forward: str = "gelu"
    # "none", "qk-rms" or "key-l2".
    attention_norm: str = "none"
    # Whether each part's result has a learned scale.
    layer_scale: bool = False


def norm(kind: str, width: int, eps: float) -> nn.Module:
    """A normalisation over the last axis."""
    return {"rms": nn.RMSNorm, "layer": nn.LayerNorm}[kind](width, eps)


class Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        width, self.heads = settings.width, settings.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_norm = settings.attention_norm
        if self.attention_norm == "qk-rms":
            self.query_norm = norm("rms", width // self.heads, settings.eps)
            self.key_norm = norm("rms", width // self.heads, settings.eps)
        elif self.attention_norm not in ("none", "key-l2"):
            raise ValueError(
                f"attention_norm {self.attention_norm!r} is not known here; use its pixtok's pixtok_reader"
            )

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        # [B, N, 3 width] -> three of [B, heads, N, d].
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scale = None
        if self.attention_norm == "qk-rms":
            q, k = self.query_norm(q), self.key_norm(k)
        elif self.attention_norm == "key-l2":
            k, scale = F.normalize(k, dim=-1, eps=LEAST_KEY), 1.0
        if rotation is not None:
            q, k = turned(q, rotation), turned(k, rotation)
        attended = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return self.out(attended.transpose(1, 2).flatten(2))


class SwiGlu(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.gate = nn.Linear(settings.width, settings.hidden)
        self.up = nn.Linear(settings.width, settings.hidden)
        self.down = nn.Linear(settings.hidden, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Gelu(nn.Module):
    """down(gelu(up(x)))."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.up = nn.Linear(settings.width, settings.hidden)
        self.down = nn.Linear(settings.hidden, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """Attention and a feed-forward part, each after a normalisation and added to its input."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        width = settings.width
        self.norm1 = norm(settings.norm, width, settings.eps)
        self.attention = Attention(settings)
        self.norm2 = norm(settings.norm, width, settings.eps)
        self.feed_forward = {"swiglu": SwiGlu, "gelu": Gelu}[settings.feed_forward](settings)
        self.scale1 = nn.Parameter(torch.ones(width)) if settings.layer_scale else None
        self.scale2 = nn.Parameter(torch.ones(width)) if settings.layer_scale else None

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        attended = self.attention(self.norm1(x), rotation)
        x = x + (attended if self.scale1 is None else attended * self.scale1)
        fed = self.feed_forward(self.norm2(x))
        return x + (fed if self.scale2 is None else fed * self.scale2)


# ---- Rotary positions: of d numbers the first half turns with the row, the second with the column ----


@dataclass(frozen=True)
class RotationSettings:
    """How queries and keys turn with their positions."""

    base: float
    # d, a multiple of 4.
    head_dim: int
    # Rows and columns in training.
    trained: tuple[int, int]
    # For grids beyond the trained one, k times as long: "none", "interpolate" (positions are divided by k)
    # or "ntk" (the base grows, so that the lowest frequency is divided by k and the highest stays).
    extension: str = "none"


def rotation(settings: RotationSettings, h: int, w: int, like: Tensor) -> Rotation:
    """The rotation of a grid, row by row."""
    rows, columns = (
        angles(settings, size, trained, like.device) for size, trained in zip((h, w), settings.trained)
    )
    both = [rows[:, None].expand(-1, w, -1), columns[None].expand(h, -1, -1)]
    # Each angle is that of a pair of neighbouring numbers.
    angle = torch.cat(both, 2).flatten(0, 1).repeat_interleave(2, 1)
    return angle.cos(), angle.sin()


def angles(settings: RotationSettings, size: int, trained: int, device: torch.device) -> Tensor:
    """Along one axis. -> [size, d / 4]."""
    half = settings.head_dim // 2
    i = torch.arange(half // 2, dtype=torch.float32, device=device)
    frequencies = settings.base ** (-2 * i / half)
    coordinates = torch.arange(size, dtype=torch.float32, device=device)
    beyond = max(size / trained, 1.0)
    match settings.extension:
        case "none":
            pass
        case "interpolate":
            coordinates = coordinates / beyond
        case "ntk":
            # (base * k^(half / (half - 2)))^(-2i / half); a single frequency is the highest.
            frequencies = frequencies * beyond ** (-2 * i / max(half - 2, 1))
        case other:
            raise ValueError(f"positions {other!r} are not known here; there are none, interpolate and ntk")
    return coordinates[:, None] * frequencies


def padded(rotation: Rotation, before: int, after: int) -> Rotation:
    """The same with further positions that are not rotated."""
    cos, sin = rotation
    return F.pad(cos, (0, 0, before, after), value=1.0), F.pad(sin, (0, 0, before, after))


def turned(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys [B, heads, N, d] by the angles of their positions."""
    cos, sin = rotation
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    other = torch.stack((-second, first), -1).flatten(-2)
    return x * cos + other * sin
