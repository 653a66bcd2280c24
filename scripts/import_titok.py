"""TiTok's names and pixtok's: what `scripts/import_weights.py` needs to know of this source."""

import re

from published import Unfit

# A tensor that every tokenizer of this source has.
ANCHOR = "encoder.patch_embed.weight"
# Counts of TA-TiTok's codes in training.
LEFT_OUT = r"quantize\.embed_prob$"
# How each layout compares latents with codes.
DISTANCE = {"vq8k": "euclidean", "legacy": "cosine"}

# Tensors without a layer. TiTok keeps the latent tokens beside both halves.
ALONE = {
    "latent_tokens": "encoder.latent_tokens",
    "decoder.mask_token": "decoder.mask_token",
    "pixel_quantize.embedding.weight": "decoder.codes.codebook",
}
EMBEDDINGS = {
    "class_embedding": "class_token",
    "positional_embedding": "positions",
    "latent_token_positional_embedding": "latent_positions",
}
IN_BLOCK = {
    "ln_1": "norm1",
    "attn.out_proj": "attention.out",
    "ln_2": "norm2",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.down",
}
ENDS = {
    "encoder.patch_embed": "encoder.stem",
    "encoder.ln_pre": "encoder.norm_in",
    "encoder.ln_post": "encoder.norm_out",
    "encoder.conv_out": "encoder.head",
    "decoder.decoder_embed": "decoder.stem",
    "decoder.ln_pre": "decoder.norm_in",
    "decoder.ln_post": "decoder.norm_out",
}
# Where the layouts differ.
OF_LAYOUT = {
    "vq8k": {"decoder.ffn.0": "decoder.pixels", "decoder.conv_out": "decoder.head"},
    "legacy": {
        "decoder.ffn.0": "decoder.codes.hidden",
        "decoder.ffn.2": "decoder.codes.logits",
        "pixel_decoder.conv_in": "decoder.pixels.stem",
        "pixel_decoder.norm_out": "decoder.pixels.norm",
        "pixel_decoder.conv_out": "decoder.pixels.head",
    },
}
# 1×1 convolutions there, linear layers here.
LINEAR = {"encoder.conv_out", "decoder.ffn.0", "decoder.ffn.2"}
IN_RES_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}


def name_of(name, layout):
    """Our name of a tensor; `None` for one that no network of this layout has."""
    if name in ALONE:
        return ALONE[name] if layout == "legacy" or not name.startswith("pixel_") else None
    half, _, rest = name.partition(".")
    if half in ("encoder", "decoder") and rest in EMBEDDINGS:
        return f"{half}.{EMBEDDINGS[rest]}"
    if match := re.fullmatch(r"(encoder|decoder)\.transformer\.(\d+)\.attn\.in_proj_(weight|bias)", name):
        return f"{match[1]}.block{match[2]}.attention.qkv.{match[3]}"
    layer, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    ours = (ENDS | OF_LAYOUT[layout]).get(layer)
    if match := re.fullmatch(r"(encoder|decoder)\.transformer\.(\d+)\.(.+)", layer):
        part = IN_BLOCK.get(match[3])
        ours = part and f"{match[1]}.block{match[2]}.{part}"
    elif layout == "legacy" and (match := re.fullmatch(r"pixel_decoder\.(?:mid|up\.(\d+)\.block)\.(\d+)\.(\w+)", layer)):
        stage = "middle" if match[1] is None else f"stage{match[1]}"
        part = IN_RES_BLOCK.get(match[3])
        ours = part and f"decoder.pixels.{stage}.res{match[2]}.{part}"
    elif layout == "legacy" and (match := re.fullmatch(r"pixel_decoder\.up\.(\d+)\.upsample_conv", layer)):
        ours = f"decoder.pixels.stage{match[1]}.up"
    return ours and f"{ours}.{kind}"


def layout_of(state):
    """The layout of a tokenizer's tensors."""
    if "decoder.ffn.2.weight" not in state:
        return "vq8k"
    if "pixel_decoder.conv_in.weight" not in state:
        raise Unfit(
            "there is a decoder.ffn.2 and no pixel_decoder: the file is of TiTok's first training stage, which has no decoder of pixels; give that of the second"
        )
    return "legacy"


def convert(state):
    """Maps the tensors of a tokenizer's networks to pixtok's. Every tensor is used."""
    layout, tensors = layout_of(state), {}
    for name, tensor in state.items():
        if name == "quantize.embedding.weight":
            continue
        if name.startswith("decoder.text_guidance"):
            raise Unfit(f"{name} is of a TA-TiTok, whose decoder also takes the text of an image; pixtok has none")
        ours = name_of(name, layout)
        if ours is None:
            raise Unfit(f"{name} is no tensor of a tokenizer of titok that this script knows")
        if name.removesuffix(".weight") in LINEAR:
            if tensor.shape[2:] != (1, 1):
                raise Unfit(f"{name} has the shape {list(tensor.shape)}, and that of a 1×1 convolution is expected")
            tensor = tensor[:, :, 0, 0].contiguous()
        elif name == "decoder.mask_token":
            tensor = tensor.reshape(-1, tensor.shape[-1])
        tensors[ours] = tensor
    return tensors


def check_config(path, model, quantizer, state):
    """Notes on a config. Refuses one with which pixtok would load the weights but compute something else."""
    if not isinstance(model, dict) or model.get("kind") != "one-d":
        raise Unfit(f'{path} has no model.kind = "one-d", which TiTok\'s networks need; set it')
    layout, written = layout_of(state), model.get("layout", "vq8k")
    if written != layout:
        raise Unfit(f'{path} has model.layout = "{written}", and the file is of the layout "{layout}"; set it')
    if model.get("positions", "learned") != "learned":
        raise Unfit(f"{path} has model.positions = {model['positions']!r}, and TiTok's are learned; leave it out")
    distance = quantizer.get("distance", "euclidean") if isinstance(quantizer, dict) else "euclidean"
    if distance == DISTANCE[layout]:
        return []
    usual = f'usual in this layout is "{DISTANCE[layout]}"'
    return [f'quantizer.distance is "{distance}" in {path}, and {usual}: right only if the tokenizer was trained so']
