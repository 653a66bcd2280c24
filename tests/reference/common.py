"""What the programs of this folder share: the seed, the versions they refuse to run without, the file they write."""

from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

VERSIONS = {
    "torch": "2.13.0",
    "vector-quantize-pytorch": "1.32.0",
    "scikit-image": "0.26.0",
    "numpy": "2.4.6",
}


def check_versions():
    for package, wanted in VERSIONS.items():
        found = version(package).split("+")[0]
        if found != wanted:
            raise SystemExit(f"{package} is {found}, the numbers are made with {wanted}")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def save(name, tensors):
    """Writes `name`.safetensors beside the programs."""
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    path = Path(__file__).parent / f"{name}.safetensors"
    # One key: the order of several would differ from run to run, and with it the file.
    made_with = ", ".join(f"{package} {found}" for package, found in VERSIONS.items())
    save_file(tensors, path, metadata={"made_with": made_with})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


check_versions()
torch.set_num_threads(1)
