"""Tokenizers of pixtok in PyTorch: images to tokens and back.

    tokenizer = load("model-folder")                # what `pixtok export RUN --out model-folder` wrote
    indices = tokenizer.encode(images)              # [B, 3, H, W] in [-1, 1] -> int64 [B, h, w]
    images = tokenizer.decode(indices)              # raises for an index that no code has

The exported decoder.pt does not check indices: it uses the first code for an index below 0 and the last code
for one beyond K - 1. Check ids from elsewhere, such as a language model:
`assert 0 <= indices.min() and indices.max() < K`.

Needs torch from 2.4 on, safetensors, and the files beside it: networks/ has a file for each kind of network,
quantizers.py the quantizers. The modules have the names of the tensors in model.safetensors, and the
arithmetic has the form that pixtok's own has, so that the indices are the same but for ties in the last bits.
Bytes become images as `bytes / 127.5 - 1`. On CUDA, switch TF32 off
(`torch.backends.cudnn.allow_tf32 = False`) for the same indices.

Letters: B batch, C channels of the latent, H W pixels, h w latent grid, N tokens of a sequence, K codebook
size, D code dimension. The indices of tokens in a sequence are [B, N]; those of a tokenizer with several
codebooks have one axis more, [B, h, w, codebooks] or [B, N, codebooks].
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from . import networks
from .quantizers import build_quantizer, natural_width


def load(folder: str | Path, positions: str | None = None) -> "Tokenizer":
    """The tokenizer of `folder`, which has model.safetensors and config.json (or config.toml), on the CPU.

    `positions` is what a transformer does at sizes beyond the trained one: none, interpolate or ntk; by
    default what its config says. Tokens of `pixtok encode --positions` have it in their sidecar, under
    `positions`.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        model = config["model"] if positions is None else networks.extended(config["model"], positions)
        tokenizer = Tokenizer(model, config["quantizer"], config["image_size"])
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
        plan = networks.plan(model, image_size, natural_width(quantizer))
        self.encoder = plan.encoder()
        self.quantizer = build_quantizer(quantizer, plan.latent_channels)
        self.decoder = plan.decoder()
        if plan.tail_drop:
            # What stands for the tokens behind a prefix.
            self.decoder.register_parameter("absent", nn.Parameter(torch.zeros(1, plan.latent_channels)))
        self.side_multiple, self.only_size, self.tokens = plan.side_multiple, plan.only_size, plan.tokens
        self.image_size = list(image_size)

    def latents(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, C, h, w]; of a sequence [B, C, 1, N].

        H and W must be multiples of `side_multiple`, or `only_size` where the network takes no other.
        """
        self.check_size(list(images.shape[2:]))
        return self.encoder(images)

    def check_size(self, size: list[int]) -> None:
        """Raises ValueError for height and width that images may not have."""
        if self.only_size is not None and size != self.only_size:
            raise ValueError(
                f"images of {size} pixels are not of the only size, {self.only_size}; resize them"
            )
        if any(side % self.side_multiple for side in size):
            raise ValueError(f"images of {size} pixels do not divide by {self.side_multiple}; crop them")

    def encode(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> int64 [B, h, w], or [B, N]; with an axis more for several codebooks."""
        z = self.latents(images)
        with torch.autocast(z.device.type, enabled=False):
            indices = self.quantizer.quantize(z.float())
        indices = indices.squeeze(3) if self.quantizer.codebooks == 1 else indices
        return indices if self.tokens is None else indices.squeeze(1)

    def decode(self, indices: Tensor, size: list[int] | None = None) -> Tensor:
        """What `encode` gives -> [B, 3, H, W], about [-1, 1]; not clamped.

        `size` is height and width of the images, which a sequence does not tell; by default that of training.
        Prefixes are taken too: the first tokens of a sequence, where the model has a vector for absent ones,
        and the first stages of a residual quantizer (without their axis, the first alone).

        Raises ValueError for an index that no code has, with its place. The check waits for a GPU; a trace
        skips it.
        """
        grid = self.as_grid(indices)
        if not torch.jit.is_tracing():
            self.check_range(indices)
        with torch.autocast(indices.device.type, enabled=False):
            z_q = self.quantizer.lookup(grid)
            if self.tokens is not None and z_q.shape[3] < self.tokens:
                absent = self.decoder.absent[:, :, None, None]
                z_q = torch.cat([z_q, absent.expand(len(z_q), -1, -1, self.tokens - z_q.shape[3])], 3)
        if self.tokens is None:
            return self.decoder(z_q)
        size = list(size or self.image_size)
        self.check_size(size)
        return self.decoder(z_q, size)

    def as_grid(self, indices: Tensor) -> Tensor:
        """Indices as quantizers have them, [B, h, w, codebooks]; a sequence is a grid of one row."""
        shape = list(indices.shape)
        if self.tokens is not None:
            indices = indices.unsqueeze(1)
        if indices.ndim == 3:
            indices = indices.unsqueeze(3)
        codebooks = self.quantizer.codebooks
        if indices.ndim != 4 or not self.quantizer.fewest <= indices.shape[3] <= codebooks:
            raise ValueError(f"indices of shape {shape} are not for {codebooks} codebooks")
        if self.tokens is not None:
            fewest = 1 if hasattr(self.decoder, "absent") else self.tokens
            if not fewest <= indices.shape[2] <= self.tokens:
                known = "" if fewest == 1 else ", and the model was not trained on prefixes"
                raise ValueError(f"indices of shape {shape} are not for {self.tokens} tokens{known}")
        return indices

    def check_range(self, indices: Tensor) -> None:
        """Raises ValueError for an index that no code has."""
        size = self.quantizer.size
        wrong = ((indices < 0) | (indices >= size)).nonzero()
        if len(wrong) == 0:
            return
        place = wrong[0].tolist()
        raise ValueError(
            f"index {indices[tuple(place)].item()} at {place} is none of the {size} codes, 0 to {size - 1}"
            f" ({len(wrong)} of {indices.numel()} are none); take offsets and special ids off first"
        )

    def codebook(self) -> Tensor:
        """The codes before the projection out, [K, D] (or [codebooks, K, D])."""
        codes = self.quantizer.all_codes()
        return codes[0] if self.quantizer.codebooks == 1 else codes
