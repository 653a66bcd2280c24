#!/usr/bin/env python3
"""Converts a published tokenizer's checkpoint to a model folder, with which pixtok evaluates, encodes and decodes.

    scripts/import_weights.py taming last.ckpt --config configs/imagenet256-f16-vq-taming.toml --out models/vqgan-1024
    scripts/import_weights.py llamagen vq_ds16_c2i.pt --config configs/imagenet256-f16-vq-llamagen.toml --out models/vq16
    scripts/import_weights.py magvit2 imagenet_256_L.ckpt --config configs/imagenet256-f16-magvit2-lfq.toml --out models/magvit2
    scripts/import_weights.py titok model.safetensors --config configs/imagenet256-titok-bl64-vq8k.toml --out models/titok
    pixtok eval models/vq16 --data IMAGES

- taming: a VQGAN of CompVis/taming-transformers (`VQModel`, with `quantize.embedding`), or its state dict alone.
- llamagen: a tokenizer of FoundationVision/LlamaGen (`VQ_models`), or its state dict alone.
- magvit2: an LFQ tokenizer of TencentARC/SEED-Voken (Open-MAGVIT2), or another with its network.
- cosmos: the state dict of an FSQ tokenizer of images of NVIDIA/Cosmos-Tokenizer (DI). Of a TorchScript file: `torch.save(torch.jit.load(FILE).state_dict(), OUT)`.
- showo: the LFQ tokenizer of showlab/Show-o (`MAGViTv2`), in diffusers' format. Its bits are turned round, so that tokens are the same.
- titok: a VQ tokenizer of bytedance/1d-tokenizer (`TiTok`), in either layout; not a TA-TiTok, whose decoder needs texts.

The config gives the network's sizes, and has `model.variant = "vqgan"`, or `model.kind = "magvit2"` for magvit2 and "one-d" for titok. Every tensor of the tokenizer is mapped to one of
pixtok's by name. Other tensors (a discriminator, LPIPS, counters, a transformer) must be of a known kind or under another
prefix; they are left out and counted. pixtok checks every name, shape and type when it loads the folder.

The tokenizer may be anywhere in a checkpoint (`state_dict`, `model`, `ema`, …) and under prefixes (`module.`, `_orig_mod.`,
`first_stage_model.`, …). If there are averaged weights, they are used. The file may be a safetensors file. No code in the
file is run: objects beside the tensors (arguments, callbacks) are skipped and listed. Needs torch 2.6 or newer, and
safetensors.
"""

import argparse
import re
import tomllib
from pathlib import Path

import import_magvit2
import import_titok
import published
import torch
from published import Unfit

# Not of the tokenizer.
LEFT_OUT = {
    "taming": r"loss\.|model_ema\.|quantize\.(used|remap)|quantize\.embedding\.(cluster_size|embed_avg)$",
    "llamagen": r"quantize\.codebook_used$",
    "magvit2": import_magvit2.LEFT_OUT,
    # Constants of the transform and of FSQ.
    "cosmos": r"(encoder\.patcher|decoder\.unpatcher|quantizer|inv_quant)\.",
    "showo": r"quantize\.(embedding|power_vals)$",
    "titok": import_titok.LEFT_OUT,
}
COUNTER = r".*\.num_batches_tracked$"
# A tensor that every tokenizer of a source has.
OF_CNN = "encoder.conv_in.weight"
ANCHORS = dict.fromkeys(LEFT_OUT, OF_CNN) | {"titok": import_titok.ANCHOR}
# How each source with one network compares latents with codes, unless it was trained otherwise.
DISTANCE = {"taming": "euclidean", "llamagen": "cosine"}
# The sources whose tokenizers have a codebook.
OF_CODEBOOK = {*DISTANCE, "titok"}
# The quantizers of sources without a codebook, and what they need.
QUANTIZERS = {"cosmos": {"kind": "fsq", "bound": "tanh"}, "showo": {"kind": "lfq"}}
# Groups of every norm in taming's network, at any width.
NORM_GROUPS = 32
CONFIG, MODEL = "config.toml", "model.safetensors"

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


def of_showo(state):
    """Show-o's tensors under taming's names. Its first channel is the highest bit and ours the lowest, so the channels of the codes
    are turned round, and with them nothing else."""
    renamed = {re.sub(r"^(encoder|decoder)\.(quant_conv|post_quant_conv)\.", r"\2.", name): tensor for name, tensor in state.items()}
    for name, axis in ("quant_conv.weight", 0), ("quant_conv.bias", 0), ("post_quant_conv.weight", 1):
        if name in renamed:
            renamed[name] = renamed[name].flip(axis)
    return renamed


def convert(source, state):
    """Maps a published tokenizer's tensors to pixtok's. Every tensor is used."""
    if source == "magvit2":
        return import_magvit2.convert(state)
    if source == "showo":
        state = of_showo(state)
    blocks = [int(found[1]) for name in state if (found := re.match(r"encoder\.conv_blocks\.(\d+)\.", name))]
    levels = max(blocks, default=0) + 1
    tensors, parts = {}, {}
    for name, tensor in state.items():
        if name == "quantize.embedding.weight" and source in OF_CODEBOOK:
            if tensor.ndim != 2:
                raise Unfit(f"{name} has {tensor.ndim} axes and not 2; the file is of no VQ tokenizer")
            # A start of its own would overwrite the codes.
            tensors |= {"quantizer.codebook": tensor, "quantizer.counts": torch.ones(len(tensor)), "quantizer.started": torch.ones(1)}
            continue
        if source == "titok":
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
        if len({part.shape for part in found.values()}) > 1:
            raise Unfit(f"{name} has a query, key and value of different shapes")
        tensors[name] = torch.cat([found[0], found[1], found[2]])
    if source == "titok":
        tensors |= import_titok.convert(state)
    if source in OF_CODEBOOK and "quantizer.codebook" not in tensors:
        raise Unfit("there is no quantize.embedding.weight: the file is of no VQ tokenizer")
    return tensors


def load(path, source):
    """The tokenizer's tensors in a file, in float32 and by the source's names, and notes on what else the file holds."""
    tensors, unread = published.read(path)
    state, others = published.network(path, tensors, ANCHORS[source])
    known = re.compile(f"{LEFT_OUT[source]}|{COUNTER}")
    left_out = published.left_out(name for name in state if known.match(name))
    state = {name: tensor for name, tensor in state.items() if not known.match(name)}
    return published.floats(state), unread + others + left_out


def read_config(path):
    """The bytes of a config, and its tables of the network and of the quantizer."""
    try:
        text = path.read_bytes()
        config = tomllib.loads(text.decode())
        return text, config.get("model"), config.get("quantizer")
    except OSError as error:
        raise Unfit(f"cannot read {path}: {error.strerror}; check the path") from None
    except ValueError as error:
        raise Unfit(f"{path} is no config: {error}") from None


def check_config(path, source, model, quantizer, state):
    """Notes on a config. Refuses one with which pixtok would load the weights but compute something else."""
    if source == "magvit2":
        return import_magvit2.check_config(path, model, quantizer)
    if source == "titok":
        return import_titok.check_config(path, model, quantizer, state)
    if not isinstance(model, dict) or "vqgan" not in (model.get("variant"), model.get("kind")):
        raise Unfit(f'{path} has no model.variant = "vqgan", which the published networks need; set it')
    groups = model.get("norm_groups", NORM_GROUPS)
    if groups != NORM_GROUPS:
        raise Unfit(f"{path} has model.norm_groups = {groups}, and the published networks have {NORM_GROUPS}; leave it out")
    if source in QUANTIZERS:
        return check_quantizer(path, source, model, quantizer)
    distance = quantizer.get("distance", "euclidean") if isinstance(quantizer, dict) else "euclidean"
    if distance == DISTANCE[source]:
        return []
    usual = f'usual in {source} is "{DISTANCE[source]}"'
    return [f'quantizer.distance is "{distance}" in {path}, and {usual}: right only if the tokenizer was trained so']


def check_quantizer(path, source, model, quantizer):
    """As `check_config`, of a source whose quantizer has no codebook."""
    found = {"bound": "tanh"} | (quantizer if isinstance(quantizer, dict) else {})
    for key, value in QUANTIZERS[source].items():
        if found.get(key) != value:
            raise Unfit(f'{path} has quantizer.{key} = "{found.get(key)}", and the tokenizers of {source} have "{value}"; set it')
    if source == "cosmos" and not model.get("haar_levels"):
        raise Unfit(f"{path} has no model.haar_levels, and the tokenizers of cosmos have 2, or 1 (360p); set it")
    return []


def check_out(folder):
    """Refuses a folder that holds anything besides an earlier import."""
    if folder.exists() and (not folder.is_dir() or any(entry.name not in (CONFIG, MODEL) for entry in folder.iterdir())):
        raise Unfit(f"{folder} is there and is no imported model; give a new folder")


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(LEFT_OUT))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", type=Path, required=True, help="the preset with the same sizes")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(args)
    try:
        config, model, quantizer = read_config(args.config)
        check_out(args.out)
        state, others = load(args.checkpoint, args.source)
        notes = check_config(args.config, args.source, model, quantizer, state)
        tensors = convert(args.source, state)
        args.out.mkdir(parents=True, exist_ok=True)
        published.write(tensors, args.out / MODEL)
        (args.out / CONFIG).write_bytes(config)
    except OSError as error:
        raise SystemExit(f"error: cannot write {args.out}: {error.strerror}") from None
    except Unfit as error:
        raise SystemExit(f"error: {error}") from None
    for note in notes + others:
        print(note)
    print(f"{args.out}: {len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()) / 1e6:.1f} M numbers")


if __name__ == "__main__":
    main()
