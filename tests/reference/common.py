"""What the programs of this folder share: random numbers, the versions they refuse to run without, the file they write."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

VERSIONS = {
    "torch": "2.13.0",
    "vector-quantize-pytorch": "1.32.0",
    "scikit-image": "0.26.0",
    "numpy": "2.4.6",
}


def check_versions(versions=VERSIONS):
    for package, wanted in versions.items():
        found = version(package).split("+")[0]
        if found != wanted:
            raise SystemExit(f"{package} is {found}, the numbers are made with {wanted}")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def uniform(name, shape):
    """float64 in 0..1 from the name (FNV-1a) and the place of each value (splitmix64)."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    x = np.arange(1, np.prod(shape, dtype=np.int64) + 1, dtype=np.uint64)
    x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) * 2.0**-53).view(shape)


def save(name, tensors, versions=VERSIONS):
    """Writes `name`.safetensors beside the programs."""
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    path = Path(__file__).parent / f"{name}.safetensors"
    # One key: the order of several would differ from run to run, and with it the file.
    made_with = ", ".join(f"{package} {found}" for package, found in versions.items())
    save_file(tensors, path, metadata={"made_with": made_with})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def record(case, z, g, latent, indices, losses, parameters, after=None):
    """What `tests/reference_quantizers.rs` compares, of one pass through a quantizer.

    `z` and the `parameters` are leaves, `g` is the gradient that arrives at the latent, `losses` are unweighted. Keys:
    `{case}/z`, `g`, `latent`, `indices`, `var/{parameter}`, `loss/{loss}`; `grad/latent/{input}` and
    `grad/{loss}/{input}`, where an input is z or a parameter and what gets no gradient is left out; `after/{variable}`.
    """
    tensors = {"z": z, "g": g, "latent": latent, "indices": indices.long()}
    tensors |= {f"var/{name}": value for name, value in parameters.items()}
    tensors |= {f"loss/{name}": value for name, value in losses.items()}
    inputs = {"z": z} | {name: value for name, value in parameters.items() if value.requires_grad}
    for source, value in {"latent": (latent * g).sum(), **losses}.items():
        gradients = torch.autograd.grad(value, list(inputs.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(inputs, gradients):
            if gradient is not None and gradient.abs().sum() > 0:
                tensors[f"grad/{source}/{name}"] = gradient
    tensors |= {f"after/{name}": value for name, value in (after or {}).items()}
    single = lambda value: value.float() if value.is_floating_point() else value
    return {f"{case}/{key}": single(value) for key, value in tensors.items()}


def clear_choice(distances, margin=1e-4):
    """The least of `distances [N, K]`, or the refusal of a case in which rounding could decide an index."""
    two = distances.topk(2, largest=False)
    assert (two.values[:, 1] - two.values[:, 0]).min() > margin, "two codes are nearly as near: choose another seed"
    return two.indices[:, 0]


check_versions()
torch.set_num_threads(1)
