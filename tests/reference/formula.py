"""Networks whose weights come from a formula of pixtok's names, so that none is stored. `tests/reference_cnn.rs` computes the same.

What is compared of a network is under `{case}/`, all of it in float64 and stored as float32:
- `latents` [B, N, D], of `images(case, …)`; `indices` [B, h, w] of them, and `recon`, what the indices decode to;
- `grad/encoder/images`, the gradient of sum(latents · probe); `grad/decoder/z`, that of sum(decoder(z) · probe), where z is by
  the formula too;
- `grad/{half}/{variable}`, those of the variables; of a matrix or a convolution, their sum with a probe over all axes but the first.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from common import uniform

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import import_weights


def probe(name, shape):
    """In -1..1."""
    return uniform(name, shape) * 2 - 1


def weight(name, shape):
    """The value of a variable of this name, float64."""
    if len(shape) == 1:
        return 0.75 + 0.5 * uniform(name, shape) if name.endswith("weight") else 0.1 * probe(name, shape)
    return probe(name, shape) * (3.0 / np.prod(shape[1:])) ** 0.5


def images(case, *shape):
    """[B, 3, H, W] in -1..1."""
    return probe(f"{case}/images", shape)


def fill(source, model):
    """Overwrites the weights of a model, which has the source's names, so that those of pixtok's names are by the formula."""
    state = dict(model.named_parameters())
    marks = {name: torch.full(tensor.shape, float(place)) for place, (name, tensor) in enumerate(state.items())}
    names = list(state)
    with torch.no_grad():
        for ours, converted in import_weights.convert(source, marks).items():
            value = weight(ours, tuple(converted.shape))
            # Queries, keys and values are one variable of pixtok's.
            for mark in converted.unique():
                name = names[int(mark)]
                part = value[converted == mark].view(state[name].shape)
                turned = {"quant_conv.weight": 0, "quant_conv.bias": 0, "post_quant_conv.weight": 1}
                axis = turned.get(".".join(name.split(".")[1:])) if source == "showo" else None
                state[name].copy_(part if axis is None else part.flip(axis))


def imported(source, config, checkpoint):
    """What the script writes of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        torch.save(checkpoint, folder / "published.ckpt")
        (folder / "config.toml").write_text(config)
        import_weights.main([source, f"{folder}/published.ckpt", "--config", f"{folder}/config.toml", "--out", f"{folder}/out"])
        assert (folder / "out/config.toml").read_text() == config
        return load_file(folder / "out/model.safetensors")


def check_import(source, config, checkpoint, model):
    """Asserts that the script makes the formula's weights of a checkpoint of `model`, and takes no tensor that it does not know."""
    for name, tensor in imported(source, config, checkpoint).items():
        assert torch.equal(tensor, weight(name, tuple(tensor.shape)).float()), name
    for strange in ("encoder.other.weight", "encoder.conv_in.scale"):
        try:
            import_weights.convert(source, dict(model.named_parameters()) | {strange: torch.zeros(1)})
            raise AssertionError(f"{strange} was taken")
        except import_weights.Unfit as error:
            assert strange in str(error)


def tokens(latents):
    """[B, D, h, w] -> [B, N, D]."""
    return latents.flatten(2).transpose(1, 2)


def record(case, source, model, pixels, variables=True):
    """What is compared of a model with `encode` (images -> latents), `quantize` (latents -> indices [B, h, w], codes) and `decode`,
    in the order of pixtok's channels."""
    pixels = pixels.requires_grad_()
    latents = model.encode(pixels)
    indices, codes = model.quantize(latents.detach())
    assert len(indices.unique()) > indices.numel() // 8, "too few codes"
    with torch.no_grad():
        recon = model.decode(codes)
    rows = tokens(latents)
    z = (2 * probe(f"{case}/z", tuple(rows.shape))).transpose(1, 2).reshape(latents.shape).requires_grad_()
    decoded = model.decode(z)
    found = {"latents": rows, "indices": indices, "recon": recon}
    parameters = dict(model.named_parameters())
    for half, value, given in ("encoder", rows, pixels), ("decoder", decoded, z):
        loss = (value * probe(f"{case}/probe/{half}", tuple(value.shape))).sum()
        own = {name: parameter for name, parameter in parameters.items() if model.half(name) == half}
        of_input, *gradients = torch.autograd.grad(loss, [given, *own.values()])
        found[f"grad/{half}/{'images' if half == 'encoder' else 'z'}"] = of_input if half == "encoder" else tokens(of_input)
        if variables:
            for name, gradient in import_weights.convert(source, dict(zip(own, gradients))).items():
                if gradient.ndim > 1:
                    gradient = gradient.flatten(1) @ probe(f"probe/{name}", (gradient[0].numel(),))
                found[f"grad/{half}/{name}"] = gradient
    print(case, {name: round(found[name].abs().max().item(), 3) for name in ("latents", "recon")})
    return {f"{case}/{name}": tensor if name == "indices" else tensor.float() for name, tensor in found.items()}
