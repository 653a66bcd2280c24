"""Networks around a quantizer, one file a kind, each built from what config.json says under `model`.

Between network and quantizer a latent is [B, C, h, w]. A sequence of N tokens is a grid of one row there,
[B, C, 1, N].
"""

from typing import Protocol

from torch import nn

from . import cnn, magvit2, one_d, pair, vit


class Network(Protocol):
    """A network before it is built."""

    # C, of the latents between network and quantizer.
    latent_channels: int
    # Both sides of images are multiples of it, in pixels.
    side_multiple: int
    # Height and width, where images of no other size are taken.
    only_size: list[int] | None
    # N, where the tokens form a sequence.
    tokens: int | None
    # Whether the decoder was trained on prefixes, and has a vector for absent tokens.
    tail_drop: bool

    def encoder(self) -> nn.Module:
        """[B, 3, H, W] in [-1, 1] -> [B, C, h, w]."""

    def decoder(self) -> nn.Module:
        """[B, C, h, w] -> [B, 3, H, W]; for a sequence [B, C, 1, N] with height and width of the images."""


def plan(model: dict, image_size: list[int], natural_width: int) -> Network:
    """The network of a config's `model`, for images of this height and width."""
    kind = model.get("kind", "cnn")
    if kind == "pair":
        return pair.Plan(*(plan(model[half], image_size, natural_width) for half in ("encoder", "decoder")))
    kinds = {"cnn": cnn, "vqgan": cnn, "vit": vit, "one-d": one_d, "magvit2": magvit2}
    if kind not in kinds:
        raise ValueError(f"model kind {kind!r} is not known here; use the pixtok_reader of its pixtok")
    return kinds[kind].Plan(model, image_size, natural_width)


def extended(model: dict, positions: str) -> dict:
    """The same network with other `positions` at sizes beyond the trained one: none, interpolate or ntk."""
    if not extends(model):
        raise ValueError(
            f"model kind {model.get('kind', 'cnn')!r} has no positions that extend with these settings"
        )
    if model["kind"] != "pair":
        return model | {"extension": positions}
    halves = {half: model[half] for half in ("encoder", "decoder") if extends(model[half])}
    return model | {half: extended(own, positions) for half, own in halves.items()}


def extends(model: dict) -> bool:
    """Whether a network has positions that extend to other sizes."""
    match model.get("kind", "cnn"):
        case "pair":
            return extends(model["encoder"]) or extends(model["decoder"])
        case "one-d":
            return model["positions"] == "rope"
        case kind:
            return kind == "vit"
