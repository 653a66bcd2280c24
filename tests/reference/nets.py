"""LPIPS by the lpips package, Inception features and Fréchet distances by pytorch-fid; the weights come from a formula.

Published weights are large and random ones do as well, if both sides have the same: `formula` makes each value from the
tensor's name and the value's place, here and in `tests/reference_nets.rs`. The networks are the packages' own:

- torchvision's `alexnet` and `vgg16` without weights, their parameters overwritten by the formula; their features are
  loaded into `lpips.LPIPS(pretrained=False, pnet_rand=True)`, whose heads are overwritten too (positive, as trained
  ones are);
- `pytorch_fid.inception.InceptionV3([3])`, whose download of a state dict is replaced by one from the formula.

The names of the tensors are those that `scripts/convert_weights.py` gives them. The program also runs the script on
these state dicts saved as the published files are, and compares what it wrote.

Keys:
- `shape/{alex,vgg,inception}/{tensor}`: the shape of each tensor of a weights file, int64.
- `lpips/{pair}/{a,b}` [B, 3, H, W] in -1..1; `lpips/{pair}/{alex,vgg}/distance` [B], and `gradient` [B, 3, H, W], that of
  the sum of the distances with respect to a.
- `inception/{a,b}/images` [6, 3, H, W] uint8, `inception/{a,b}/features` [6, 2048].
- `fid/{case}`: [1] float64, the distance of the sets in `SETS`, which the formula makes again, and of
  `inception`'s features; `fid/{case}/exact`, where one covariance is singular, without its matrix root: see `exact`.
- `fid/{case}/{a,b}/{mean,covariance}` float64, of the small sets alone.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import lpips
import numpy as np
import pytorch_fid.inception
import torch
import torchvision
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.torch import load_file

from common import VERSIONS, check_versions, generator, save, uniform

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import convert_weights

OWN_VERSIONS = {"torchvision": "0.28.0", "lpips": "0.1.4", "pytorch-fid": "0.3.0", "scipy": "1.17.1"}

PAIRS = [(2, 37, 53), (1, 64, 45), (1, 31, 40)]
# The network resizes to 299: one set grows in both directions, one shrinks in one.
IMAGES = {"a": (6, 48, 67), "b": (6, 400, 17)}
# Vectors and dimensions of the sets a and b: more vectors than dimensions, fewer in one set, fewer in both.
SETS = {"full": ((200, 300), 8), "one": ((40, 300), 96), "both": ((40, 50), 96)}


def formula(name, shape):
    """Values of a tensor of weights, float64."""
    u = uniform(name, shape)
    if name.endswith("running_var"):
        return 0.5 + u
    if name.startswith("lin."):
        return u
    if name.endswith("bn.weight"):
        return 0.75 + 0.5 * u
    if len(shape) == 1:
        return 0.2 * u - 0.1
    return (2.0 * u - 1.0) * (6.0 / np.prod(shape[1:])) ** 0.5


def fill(converted):
    """Overwrites the tensors in place: the converter copies nothing, so the state dicts they are of change too."""
    for name, tensor in converted.items():
        tensor.copy_(formula(name, tuple(tensor.shape)))


def check_script(kind, files, converted):
    """Saves state dicts, runs the script on them and compares what it wrote with `converted`."""
    with tempfile.TemporaryDirectory() as folder:
        args = [kind, "--out", f"{folder}/out.safetensors"]
        for option, state in files.items():
            torch.save(state, f"{folder}/{option}.pth")
            args += [f"--{option}", f"{folder}/{option}.pth"]
        convert_weights.main(args)
        written = load_file(f"{folder}/out.safetensors")
    assert written.keys() == converted.keys()
    assert all(torch.equal(written[name], converted[name]) for name in written)


def shapes(net, converted):
    return {f"shape/{net}/{name}": torch.tensor(tensor.shape) for name, tensor in converted.items()}


def filled_lpips(net, build):
    """The package's LPIPS with weights from the formula, and the tensors of its file."""
    model = lpips.LPIPS(net=net, version="0.1", pretrained=False, pnet_rand=True, verbose=False)
    trunk = build(weights=None).state_dict()
    heads = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("lin")}
    converted = convert_weights.lpips(f"lpips-{net}", trunk, heads)
    fill(converted)
    for name, tensor in model.net.state_dict().items():
        _, place, part = name.split(".")
        tensor.copy_(trunk[f"features.{place}.{part}"])
    # All but the largest of what the script has to leave out.
    check_script(f"lpips-{net}", {"trunk": {k: v for k, v in trunk.items() if v.numel() < 3e6}, "heads": heads}, converted)
    return model, converted


def picture_pair(random, batch, height, width):
    """Smooth waves and an edge, and the same with noise: in -1..1."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    period = lambda: 2 + 10 * torch.rand(batch, 3, 1, 1, generator=random)
    a = torch.sin(x / period() + y / period())
    a[..., width // 2 :] *= 0.4
    b = a + 0.3 * torch.randn(a.shape, generator=random)
    return a.clamp(-1, 1), b.clamp(-1, 1)


def lpips_numbers(random):
    pairs = [picture_pair(random, *size) for size in PAIRS]
    tensors = {}
    for net, build in [("alex", torchvision.models.alexnet), ("vgg", torchvision.models.vgg16)]:
        with torch.no_grad():
            model, converted = filled_lpips(net, build)
        tensors |= shapes(net, converted)
        for i, (a, b) in enumerate(pairs):
            a = a.clone().requires_grad_()
            distance = model(a, b).flatten()
            distance.sum().backward()
            assert torch.isfinite(a.grad).all()
            tensors |= {f"lpips/{i}/a": a, f"lpips/{i}/b": b}
            tensors |= {f"lpips/{i}/{net}/distance": distance, f"lpips/{i}/{net}/gradient": a.grad}
            print(net, i, distance.tolist())
    return tensors


@torch.no_grad()
def inception_numbers(random):
    # The shapes are those of the state dict that pytorch-fid downloads: its patched blocks add no parameters.
    state = pytorch_fid.inception._inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
    converted = convert_weights.inception(state)
    fill(converted)
    check_script("inception", {"weights": state}, converted)
    pytorch_fid.inception.load_state_dict_from_url = lambda url, progress: state
    model = pytorch_fid.inception.InceptionV3([3]).eval()
    tensors = shapes("inception", converted)
    for name, (count, height, width) in IMAGES.items():
        a, _ = picture_pair(random, count, height, width)
        images = ((a + 1) * 127.5).round().to(torch.uint8)
        features = model(images / 255)[0].flatten(1)
        print("inception", name, "features", features.mean().item(), "spread", features.std(0).mean().item())
        tensors |= {f"inception/{name}/images": images, f"inception/{name}/features": features}
    return tensors


def moments(x):
    x = x.double().numpy()
    return x.mean(axis=0), np.cov(x, rowvar=False)


def exact(a, b):
    """The distance without a root of a matrix: tr (ΣaΣb)^½ is the sum of the singular values of A Bᵀ, where the rows of A
    and B are the centred vectors over √(n − 1). For few vectors it is small and exact, where pytorch-fid's root, of a
    singular matrix, is not."""
    scaled = lambda x: (x - x.mean(0)) / (len(x) - 1) ** 0.5
    a, b = a.double(), b.double()
    root = torch.linalg.svdvals(scaled(a) @ scaled(b).T).sum()
    return (a.mean(0) - b.mean(0)).square().sum() + scaled(a).square().sum() + scaled(b).square().sum() - 2 * root


def fid_numbers(tensors):
    sets = {"inception": [tensors[f"inception/{name}/features"] for name in "ab"]}
    for case, ((count_a, count_b), dimensions) in SETS.items():
        a = uniform(f"fid/{case}/a", (count_a, dimensions))
        b = uniform(f"fid/{case}/b", (count_b, dimensions))
        # A spread that differs from dimension to dimension, correlated in b, about other means.
        b = 0.1 + 0.8 * b + 0.3 * b.roll(1, 1)
        sets[case] = [x * torch.linspace(0.2, 2.0, dimensions, dtype=torch.float64) for x in (a, b)]
    numbers = {}
    for case, (a, b) in sets.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            theirs = calculate_frechet_distance(*moments(a), *moments(b))
        numbers[f"fid/{case}"] = torch.tensor([theirs], dtype=torch.float64)
        if case != "full":
            numbers[f"fid/{case}/exact"] = exact(a, b).reshape(1)
            assert abs(theirs / numbers[f"fid/{case}/exact"].item() - 1) < 1e-3
        print("fid", case, theirs, numbers.get(f"fid/{case}/exact"))
    for name, x in zip("ab", sets["full"]):
        mean, covariance = moments(x)
        numbers[f"fid/full/{name}/mean"] = torch.from_numpy(mean)
        numbers[f"fid/full/{name}/covariance"] = torch.from_numpy(covariance)
    return numbers


def main():
    check_versions(OWN_VERSIONS)
    random = generator(11)
    tensors = lpips_numbers(random) | inception_numbers(random)
    save("nets", tensors | fid_numbers(tensors), VERSIONS | OWN_VERSIONS)


main()
