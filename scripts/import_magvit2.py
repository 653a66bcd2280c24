"""Tokenizers of Open-MAGVIT2 and of what has its network, for `import_weights.py`."""

import re

from published import Unfit

# Not of the tokenizer. LitEma's averages are taken before, by the names of what they are of.
LEFT_OUT = r"loss\.|model_ema\.|quantize\."
# What may be around the signs; the first channel is the lowest bit, as in pixtok.
QUANTIZERS = ("lfq", "grouped")

BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
ENDS = {"conv_in": "stem", "norm_out": "norm", "conv_out": "head"}


def layer_of(name):
    """Our name of a layer."""
    if match := re.fullmatch(r"(encoder|decoder)\.(conv_in|norm_out|conv_out)", name):
        return f"{match[1]}.{ENDS[match[2]]}"
    if match := re.fullmatch(r"encoder\.down\.(\d+)\.downsample", name):
        return f"encoder.stage{match[1]}.down"
    if match := re.fullmatch(r"decoder\.up\.(\d+)\.upsample\.conv1", name):
        return f"decoder.stage{match[1]}.up"
    if match := re.fullmatch(r"decoder\.adaptive\.(\d+)\.(gamma|beta)", name):
        return f"decoder.stage{match[1]}.adaptive.{match[2]}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.(\d+)\.(\w+)", name):
        half, place, part = match[1], f"middle.res{match[2]}", match[3]
    elif match := re.fullmatch(r"(encoder\.down|decoder\.up)\.(\d+)\.block\.(\d+)\.(\w+)", name):
        half, place, part = match[1].split(".")[0], f"stage{match[2]}.res{match[3]}", match[4]
    else:
        return None
    return f"{half}.{place}.{BLOCK[part]}" if part in BLOCK else None


def convert(state):
    """Maps the tensors to pixtok's. Every tensor is used."""
    tensors = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        ours = layer_of(layer) if kind in ("weight", "bias") else None
        if ours is None:
            raise Unfit(f"{name} is no tensor of a tokenizer of magvit2 that this script knows")
        tensors[f"{ours}.{kind}"] = tensor
    return tensors


def check_config(path, model, quantizer):
    """Refuses a config with which pixtok would load the weights but compute something else."""
    if not isinstance(model, dict) or model.get("kind") != "magvit2":
        raise Unfit(f'{path} has no model.kind = "magvit2", which the published networks need; set it')
    kind = quantizer.get("kind") if isinstance(quantizer, dict) else None
    if kind not in QUANTIZERS:
        raise Unfit(f'{path} has quantizer.kind = "{kind}", and the published tokenizers take signs; set it to "lfq"')
    return []
