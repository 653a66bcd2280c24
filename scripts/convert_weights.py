#!/usr/bin/env python3
"""From published PyTorch weights to the safetensors files that pixtok reads.

    scripts/convert_weights.py lpips-alex --trunk alexnet-owt-7be5be79.pth --heads alex.pth [--out lpips-alex.safetensors]
    scripts/convert_weights.py lpips-vgg --trunk vgg16-397923af.pth --heads vgg.pth [--out lpips-vgg.safetensors]
    scripts/convert_weights.py inception --weights pt_inception-2015-12-05-6726825d.pth [--out inception-fid.safetensors]

Where the files come from:

- --trunk: torchvision's model zoo, the ImageNet weights IMAGENET1K_V1 of `alexnet` (alexnet-owt-7be5be79.pth) and of
  `vgg16` (vgg16-397923af.pth). `torchvision.models.alexnet(weights="IMAGENET1K_V1")` leaves the file in torch's cache.
- --heads: the lpips package, version 0.1.4, holds them in its folder `lpips/weights/v0.1`: alex.pth and vgg.pth.
- --weights: the pytorch-fid project's release `fid_weights`. The package pytorch-fid leaves the file in torch's cache.

The state dict may be part of a larger checkpoint, may have the prefixes of DDP or torch.compile, and may be a safetensors file.
No code in a file is run. Needs torch 2.6 or newer, and safetensors. Classifiers are left out, since neither metric uses them. pixtok checks every name, shape and type when it loads the file.
"""

import argparse
from pathlib import Path

import published
from published import Unfit

# Places of the convolutions in torchvision's `features`, and the channels after the five that LPIPS compares.
TRUNKS = {
    "lpips-alex": ((0, 3, 6, 8, 10), (64, 3, 11, 11)),
    "lpips-vgg": ((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (64, 3, 3, 3)),
}
CHANNELS = {"lpips-alex": (64, 192, 384, 256, 256), "lpips-vgg": (64, 128, 256, 512, 512)}
# Tensors by which each kind of file is recognised.
OF_TRUNK, OF_HEADS, OF_INCEPTION = "features.0.weight", "lin0.model.1.weight", "Mixed_7c.branch_pool.conv.weight"
# Parts of Inception that only its classifiers use.
CLASSIFIERS = ("fc.", "AuxLogits.")
DEFAULT_OUT = {"inception": "inception-fid.safetensors"} | {name: f"{name}.safetensors" for name in TRUNKS}


def get(state, name, what):
    if name not in state:
        raise Unfit(f"{what} has no tensor {name!r}; give the published file that `--help` names")
    return state[name]


def lpips(net, trunk, heads):
    """Tensors of LPIPS with `net`, of torchvision's state dict `trunk` and the lpips package's `heads`. Copies nothing."""
    places, first = TRUNKS[net]
    tensors = {}
    for place in places:
        for part in ("weight", "bias"):
            tensors[f"features.{place}.{part}"] = get(trunk, f"features.{place}.{part}", "--trunk")
    if tuple(tensors["features.0.weight"].shape) != first:
        raise Unfit(f"--trunk is not that of {net}: its first convolution is {list(tensors['features.0.weight'].shape)}")
    for i, channels in enumerate(CHANNELS[net]):
        head = get(heads, f"lin{i}.model.1.weight", "--heads")
        if tuple(head.shape) != (1, channels, 1, 1):
            raise Unfit(f"--heads is not that of {net}: its head {i} is {list(head.shape)}, not [1, {channels}, 1, 1]")
        tensors[f"lin.{i}.weight"] = head
    return tensors


def inception(state):
    """Tensors of pytorch-fid's Inception up to its last pooling. Copies nothing."""
    get(state, OF_INCEPTION, "--weights")
    used = lambda name: not name.startswith(CLASSIFIERS) and not name.endswith(".num_batches_tracked")
    return {name: tensor for name, tensor in state.items() if used(name)}


def arguments(args):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for net in TRUNKS:
        kind = kinds.add_parser(net)
        kind.add_argument("--trunk", type=Path, required=True, help="torchvision's state dict")
        kind.add_argument("--heads", type=Path, required=True, help="the lpips package's linear heads, v0.1")
    kinds.add_parser("inception").add_argument("--weights", type=Path, required=True, help="pytorch-fid's state dict")
    for name, kind in kinds.choices.items():
        kind.add_argument("--out", type=Path, default=Path(DEFAULT_OUT[name]), help="file to write (%(default)s)")
    return parser.parse_args(args)


def main(args=None):
    args = arguments(args)
    notes = []

    def load(path, anchor):
        tensors, unread = published.read(path)
        state, others = published.network(path, tensors, anchor)
        notes.extend(f"{path}: {note}" for note in unread + others)
        return state

    try:
        if not args.out.parent.is_dir():
            raise Unfit(f"there is no folder {args.out.parent} to write {args.out.name} into; make it")
        if args.kind == "inception":
            tensors = inception(load(args.weights, OF_INCEPTION))
        else:
            tensors = lpips(args.kind, load(args.trunk, OF_TRUNK), load(args.heads, OF_HEADS))
        published.write(published.floats(tensors), args.out)
    except Unfit as error:
        raise SystemExit(f"error: {error}") from None
    for note in notes:
        print(note)
    print(f"{args.out}: {len(tensors)} tensors, {args.out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
