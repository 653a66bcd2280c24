#!/usr/bin/env python3
"""From a published tokenizer's checkpoint to a model folder that pixtok evaluates, encodes and decodes with.

    scripts/import_weights.py taming last.ckpt --config configs/imagenet256-f16-vq-taming.toml --out models/vqgan-1024
    scripts/import_weights.py llamagen vq_ds16_c2i.pt --config configs/imagenet256-f16-vq-llamagen.toml --out models/vq16
    pixtok eval models/vq16 IMAGES

- taming: a VQGAN of CompVis/taming-transformers (`VQModel`, with `quantize.embedding`), or its state dict alone.
- llamagen: a tokenizer of FoundationVision/LlamaGen (`VQ_models`), or its state dict alone.

The config gives the network's sizes, and has `model.variant = "vqgan"`. Every tensor of the tokenizer is mapped to one of pixtok's by name;
what else the file holds (a discriminator, LPIPS, counters) must be of a known kind and is left out. pixtok checks every name,
shape and type when it loads the folder. Needs torch and safetensors.

A checkpoint that holds more than tensors (a Lightning one does) is refused, since reading it can run anything. If you trust it:
    python3 -c 'import torch; torch.save(torch.load("last.ckpt", weights_only=False)["state_dict"], "tensors.ckpt")'
"""

import argparse
import pickle
import re
import shutil
from pathlib import Path

try:
    import torch
    from safetensors.torch import save_file
except ImportError as error:
    raise SystemExit(f"{error}: pip install torch safetensors, or use .venv-readers/bin/python after `just test-python`") from None

# Not of the tokenizer.
LEFT_OUT = {"taming": r"loss\.|model_ema\.|quantize\.(used|remap)", "llamagen": r"quantize\.codebook_used"}
# Where a checkpoint has its state dict; the first that is there.
INSIDE = {"taming": ["state_dict"], "llamagen": ["ema", "model"]}

BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
ENDS = {
    "encoder.conv_in": "encoder.stem",
    "encoder.norm_out": "encoder.norm",
    "encoder.conv_out": "encoder.head",
    "quant_conv": "encoder.to_quantizer",
    "post_quant_conv": "decoder.from_quantizer",
    "decoder.conv_in": "decoder.stem",
    "decoder.norm_out": "decoder.norm",
    "decoder.conv_out": "decoder.head",
}


class Unfit(Exception):
    """A file that is not the published one."""


def taming_name(name, levels):
    """LlamaGen's name of a layer as taming has it; others as they are."""
    match = re.fullmatch(r"(encoder|decoder)\.conv_blocks\.(\d+)\.(res|attn|downsample|upsample)\.(.+)", name)
    if match:
        half, level, kind, rest = match.groups()
        # The decoder's begin at the coarsest.
        level = int(level) if half == "encoder" else levels - 1 - int(level)
        side = "down" if half == "encoder" else "up"
        kind = {"res": "block"}.get(kind, kind)
        return f"{half}.{side}.{level}.{kind}.{rest}"
    middle = {"0": "block_1", "1": "attn_1", "2": "block_2"}
    return re.sub(r"^(encoder|decoder)\.mid\.([012])\.", lambda found: f"{found[1]}.mid.{middle[found[2]]}.", name)


def layer_of(name):
    """Our name of a layer, from taming's; the parts of an attention's first convolution have a mark at their end."""
    if name in ENDS:
        return ENDS[name]
    if match := re.fullmatch(r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(?:downsample|upsample)\.conv", name):
        half, level = match.groups()
        return f"{half}.stage{level}.{'down' if half == 'encoder' else 'up'}"
    if match := re.fullmatch(r"(encoder|decoder)\.(?:down|up)\.(\d+)\.(block|attn)\.(\d+)\.(\w+)", name):
        half, level, kind, place, part = match.groups()
        place = f"{half}.stage{level}.{'res' if kind == 'block' else 'attention'}{place}"
    elif match := re.fullmatch(r"(encoder|decoder)\.mid\.(block|attn)_(\d)\.(\w+)", name):
        half, kind, number, part = match.groups()
        place = f"{half}.middle.{f'res{int(number) - 1}' if kind == 'block' else 'attention'}"
    else:
        return None
    if kind == "block":
        return f"{place}.{BLOCK[part]}" if part in BLOCK else None
    parts = {"norm": "norm", "proj_out": "out", "q": "qkv#0", "k": "qkv#1", "v": "qkv#2"}
    return f"{place}.{parts[part]}" if part in parts else None


def convert(source, state):
    """pixtok's tensors of a published state dict. Every tensor is used or of a known kind that is not."""
    state = {name: tensor for name, tensor in state.items() if not re.match(LEFT_OUT[source], name)}
    blocks = [int(found[1]) for name in state if (found := re.match(r"encoder\.conv_blocks\.(\d+)\.", name))]
    levels = max(blocks, default=0) + 1
    tensors, parts = {}, {}
    for name, tensor in state.items():
        if name == "quantize.embedding.weight":
            codes = len(tensor)
            # A start of its own would overwrite the codes.
            tensors |= {
                "quantizer.codebook": tensor,
                "quantizer.counts": torch.ones(codes),
                "quantizer.started": torch.ones(1),
            }
            continue
        layer, _, kind = taming_name(name, levels).rpartition(".")
        ours = layer_of(layer) if kind in ("weight", "bias") else None
        if ours is None:
            raise Unfit(f"{name} is no tensor of a tokenizer of {source} that this script knows")
        ours, _, part = ours.partition("#")
        if part:
            parts.setdefault(f"{ours}.{kind}", {})[int(part)] = tensor
        else:
            tensors[f"{ours}.{kind}"] = tensor
    for name, found in parts.items():
        if sorted(found) != [0, 1, 2]:
            raise Unfit(f"{name} lacks its query, key or value")
        tensors[name] = torch.cat([found[0], found[1], found[2]])
    if "quantizer.codebook" not in tensors:
        raise Unfit("there is no quantize.embedding.weight: the file is of no VQ tokenizer")
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def load(path, source):
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Unfit(f"cannot read {path}: {error.strerror}; check the path") from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        # Not PyTorch's words, which advise to run what the file holds.
        raise Unfit(f"{path} holds more than tensors; save its state dict alone, with a program that you trust") from error
    if not isinstance(found, dict):
        raise Unfit(f"{path} holds a {type(found).__name__} and no state dict; save the tokenizer's")
    inside = next((key for key in INSIDE[source] if key in found), None)
    return found[inside] if inside else found


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(LEFT_OUT))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", type=Path, required=True, help="the preset with the same sizes")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(args)
    try:
        tensors = convert(args.source, load(args.checkpoint, args.source))
    except Unfit as error:
        raise SystemExit(f"error: {error}") from None
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(args.config, args.out / "config.toml")
    print(f"{args.out}: {len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()) / 1e6:.1f} M numbers")


if __name__ == "__main__":
    main()
