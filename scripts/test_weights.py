#!/usr/bin/env python3
"""Imports and converts weights in every form in which checkpoints come, and tries files that are not weights.

    just test-python

Accepted weights must keep their numbers, a refusal must be one sentence that names the file, and no code in a file may run.
Needs no network and no pixtok.
"""

import argparse
import collections
import io
import json
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import convert_weights
import import_weights
import numpy as np
import torch
from safetensors.torch import load_file, save

PRESET = '# a preset\n[quantizer]\nkind = "vq"\n[model]\nvariant = "vqgan"\n'
WIDTH, CODES, DIM = 32, 24, 6


def tensors(source: str) -> dict[str, torch.Tensor]:
    """A tokenizer with one level and one block, under the source's names."""
    taming = source == "taming"
    down, up = ("down.0.block.0", "up.0.block.0") if taming else ("conv_blocks.0.res.0", "conv_blocks.0.res.0")
    middle = ["mid.block_1", "mid.attn_1", "mid.block_2"] if taming else ["mid.0", "mid.1", "mid.2"]
    torch.manual_seed(5)
    state = {"quantize.embedding.weight": torch.randn(CODES, DIM)}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape), torch.randn(shape[0])

    for half, block in ("encoder", down), ("decoder", up):
        ends = (3, 10) if half == "encoder" else (10, 3)
        layer(f"{half}.conv_in", WIDTH, ends[0], 3, 3)
        for place in block, middle[0], middle[2]:
            for number in "12":
                layer(f"{half}.{place}.norm{number}", WIDTH)
                layer(f"{half}.{place}.conv{number}", WIDTH, WIDTH, 3, 3)
        layer(f"{half}.{middle[1]}.norm", WIDTH)
        for part in "q", "k", "v", "proj_out":
            layer(f"{half}.{middle[1]}.{part}", WIDTH, WIDTH, 1, 1)
        layer(f"{half}.norm_out", WIDTH)
        layer(f"{half}.conv_out", ends[1], WIDTH, 3, 3)
    layer("quant_conv", DIM, 10, 1, 1)
    layer("post_quant_conv", 10, DIM, 1, 1)
    return state


def under(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: dict) -> dict:
    """Other numbers under the same names."""
    return {name: tensor + 1 for name, tensor in state.items()}


def saved(thing: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


class Callback:
    """A class that is unknown to the reader of the file."""

    def __init__(self) -> None:
        self.best, self.path, self.scores = torch.ones(2), Path("run/best.ckpt"), collections.deque([np.float64(3)], 5)
        self.rng, self.options = np.random.RandomState(0).get_state(), collections.defaultdict(list, a=[np.dtype("f4")])


class Attributes(dict):
    """Like Lightning's."""


class Touch:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path, function: object = os.system) -> None:
        self.path, self.function = path, function

    def __reduce__(self) -> tuple:
        return self.function, (f"touch {self.path}" if self.function is os.system else f"open({str(self.path)!r}, 'w')",)


def taken(marker: Path) -> dict[str, tuple[str, bytes, list[str]]]:
    """Files that must be accepted: source, bytes, words of the notes."""
    llamagen, taming = tensors("llamagen"), tensors("taming")
    loss = {"loss.discriminator.main.1.num_batches_tracked": torch.tensor(3), "loss.logvar": torch.zeros(1)}
    training = {"steps": 7, "args": argparse.Namespace(lr=1e-4, tags=["a"]), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    counter = {"encoder.norm_out.num_batches_tracked": torch.tensor(3)}
    discriminator = {"discriminator": {"main.0.weight": torch.zeros(3)}}
    mixed = {
        ("module._orig_mod." if "conv" in name else "_orig_mod.module.") + name: tensor for name, tensor in llamagen.items()
    }
    inner = {name.replace("encoder.", "encoder._orig_mod."): tensor for name, tensor in llamagen.items()}
    flat = torch.cat([tensor.flatten() for tensor in llamagen.values()])
    views, at = {}, 0
    for name, tensor in llamagen.items():
        views[name] = flat[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    turned = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in llamagen.items()}
    lightning = {
        "state_dict": taming | loss,
        "callbacks": {Callback: {"best": 0.5}, "second": Callback()},
        "hyper_parameters": Attributes(config=argparse.Namespace(a=1), path=Path("x")),
        "pytorch-lightning_version": "2.5.0",
        "epoch": 3,
    }
    transformer = {"transformer.head.weight": torch.zeros(3)} | under("cond_stage_model.", other(taming))
    touching = {"model": llamagen, "args": Touch(marker, eval)}
    return {
        "alone": ("llamagen", saved(llamagen), []),
        "ddp": ("llamagen", saved({"model": under("module.", llamagen)}), []),
        "compiled": ("llamagen", saved(under("_orig_mod.", llamagen)), []),
        "both": ("llamagen", saved({"ema": under("_orig_mod.module.", llamagen)}), []),
        "mixed": ("llamagen", saved({"model": mixed}), []),
        "inside": ("llamagen", saved({"model": inner}), []),
        "generator": ("llamagen", saved({"state_dict": under("generator.", llamagen) | {"disc.w": torch.ones(2)}}), ["left out: 1 of disc"]),
        "nested": ("llamagen", saved({"checkpoint": {"model": {"module": llamagen}}}), []),
        "ema none": ("llamagen", saved({"model": llamagen, "ema": None} | training), ["argparse.Namespace"]),
        "ema empty": ("llamagen", saved({"model": llamagen, "ema": {}}), []),
        "ema": ("llamagen", saved({"model": other(llamagen), "ema": llamagen} | discriminator), ["taken: ema", "1 of discriminator"]),
        "litema": ("taming", saved(other(taming) | {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in taming.items()}), ["averages in model_ema"]),
        "params_ema": ("taming", saved({"params_ema": taming, "params": other(taming)}), ["taken: params_ema"]),
        "counters": ("llamagen", saved(llamagen | {"quantize.codebook_used": torch.zeros(9)} | counter), ["1 of encoder, 1 of quantize"]),
        "half": ("llamagen", saved({name: tensor.half() for name, tensor in llamagen.items()}), []),
        "parameters": ("llamagen", saved({name: torch.nn.Parameter(tensor) for name, tensor in llamagen.items()}), []),
        "views": ("llamagen", saved(views), []),
        "turned": ("llamagen", saved(turned), []),
        "legacy": ("taming", saved({"state_dict": taming, "args": argparse.Namespace()}, _use_new_zipfile_serialization=False), ["Namespace"]),
        "lightning": ("taming", saved(lightning), ["objects left unread: ", "2 of loss"]),
        "first stage": ("taming", saved({"state_dict": under("first_stage_model.", taming | loss) | transformer}), ["taken: state_dict.first_stage_model", "85 of cond_stage_model", "1 of transformer"]),
        "safetensors": ("llamagen", save(under("gen_vision_model.", llamagen) | {"language.w": torch.ones(2)}), ["1 of language"]),
        "touching": ("llamagen", saved(touching), ["builtins.eval"]),
    }


def no_weights(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Files without readable tensors: bytes, words of the refusal."""
    state = tensors("llamagen")
    whole = saved(state)
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "weights are elsewhere")
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 5, 1)), script)
    arrays = io.BytesIO()
    np.savez(arrays, a=np.zeros(3))
    return {
        "empty": (b"", "an empty file"),
        "zeros": (bytes(5000), "a file of zero bytes"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n", "a git-lfs pointer (fetch"),
        "html": (b"\n<!DOCTYPE html><html><title>404</title>", "an HTML page"),
        "json": (json.dumps({"error": "gated"}).encode(), "JSON text"),
        "text": (b"Not found\n", "plain text"),
        "zip": (archive.getvalue(), "a zip archive, and weights that PyTorch saved are expected"),
        "npz": (arrays.getvalue(), "a NumPy archive (npz)"),
        "tar": (tar.getvalue(), "a tar archive"),
        "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip data"),
        "picture": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture"),
        "noise": (bytes(range(128, 256)) * 9, "of an unknown kind"),
        "script": (script.getvalue(), "a TorchScript program"),
        "cut zip": (whole[: len(whole) // 2], "a PyTorch file (zip with a pickle) that is cut short or damaged"),
        "cut early": (whole[:20], "that is cut short or damaged"),
        "cut legacy": (saved(state, _use_new_zipfile_serialization=False)[:-200], "a Python pickle that is cut short or damaged"),
        "cut in the pickle": (saved(state, _use_new_zipfile_serialization=False)[:300], "a Python pickle that is cut short or damaged"),
        "cut safetensors": (save(state)[:-9], "a safetensors file that is cut short or damaged"),
        "pickle": (b"\x80\x02}q\x00.", "a Python pickle, and weights that PyTorch saved are expected"),
        "protocol": (saved(state, pickle_protocol=4), "pickle protocol 4"),
        "list": (saved([torch.ones(2)]), "no tensors by name, but a value of type list"),
        "number": (saved(3), "no tensors by name, but a value of type int"),
        "module": (saved(torch.nn.Conv2d(3, 5, 1)), "torch.nn.modules.conv.Conv2d"),
        "system": (saved({"model": state, "args": Touch(marker)}), "posix.system"),
    }  # fmt: skip


def unfit() -> dict[str, tuple[bytes, str]]:
    """Tensors that are no tokenizer of LlamaGen: bytes, words of the refusal."""
    state = tensors("llamagen")
    less = lambda name: {other: tensor for other, tensor in state.items() if other != name}
    return {
        "classifier": (saved({"features.0.weight": torch.ones(2)}), "no tensor 'encoder.conv_in.weight', but features.0.weight"),
        "two": (saved(under("a.", state) | under("b.", other(state))), "several networks (a, b)"),
        "wrapped twice": (saved(state | under("module.", state)), "two tensors 'quantize.embedding.weight'"),
        "strange": (saved(state | {"encoder.extra.weight": torch.ones(2)}), "encoder.extra.weight is no tensor"),
        "no codes": (saved(less("quantize.embedding.weight")), "no quantize.embedding.weight"),
        "no query": (saved(less("encoder.mid.1.q.weight")), "lacks its query, key or value"),
        "integers": (saved({name: tensor.int() for name, tensor in state.items()}), "of torch.int32"),
        "sparse": (saved(state | {"quantize.embedding.weight": torch.eye(5).to_sparse()}), "sparse"),
        "meta": (saved({name: tensor.to("meta") for name, tensor in state.items()}), "without its numbers"),
        "nan": (saved(state | {"quant_conv.bias": torch.full([DIM], torch.nan)}), "not finite"),
    }  # fmt: skip


def said(main: Callable, *args: object) -> tuple[bool, str]:
    """Whether a script succeeded, and what it printed. Exceptions other than its own refusals pass through."""
    heard = io.StringIO()
    try:
        with redirect_stdout(heard):
            main([str(arg) for arg in args])
        return True, heard.getvalue()
    except SystemExit as end:
        return False, str(end)


def expect_taken(name: str, words: list[str], main: Callable, *args: object) -> None:
    done, heard = said(main, *args)
    if not done or any(word not in heard for word in words):
        sys.exit(f"{name}: {words} expected, but {heard}")


def expect_refused(name: str, words: str, main: Callable, *args: object) -> None:
    done, heard = said(main, *args)
    if done or words not in heard or not heard.startswith("error: ") or "\n" in heard or "weights_only" in heard:
        sys.exit(f"{name}: {words!r} expected, but {'taken, ' if done else ''}{heard}")


def imports(folder: Path, marker: Path) -> int:
    """Runs files through import_weights.py; returns how many."""
    config, given, out = folder / "preset.toml", folder / "given.pt", folder / "out"
    rest = "--config", config, "--out", out
    config.write_text(PRESET)
    whole = {}
    for source in "taming", "llamagen":
        given.write_bytes(saved(tensors(source)))
        expect_taken(source, [], import_weights.main, source, given, *rest)
        whole[source] = load_file(out / "model.safetensors")
        assert (out / "config.toml").read_text() == PRESET
        # The usage counts of the codes and a flag count too.
        numbers = sum(tensor.numel() for tensor in tensors(source).values()) + CODES + 1
        assert sum(tensor.numel() for tensor in whole[source].values()) == numbers
    good, bad = taken(marker), no_weights(marker) | unfit()
    for name, (source, data, words) in good.items():
        given.write_bytes(data)
        expect_taken(name, words, import_weights.main, source, given, *rest)
        found, rounding = load_file(out / "model.safetensors"), 2e-3 if name == "half" else 0
        assert found.keys() == whole[source].keys(), name
        for key, tensor in found.items():
            assert torch.allclose(tensor, whole[source][key], rounding, rounding), f"{name}: {key}"
    for name, (data, words) in bad.items():
        given.write_bytes(data)
        expect_refused(name, words, import_weights.main, "llamagen", given, *rest)
    assert not marker.exists(), "what a file asks to be run was run"

    given.write_bytes(saved(tensors("llamagen")))
    llamagen = import_weights.main, "llamagen"
    expect_refused("a folder", "is a folder", *llamagen, folder, *rest)
    expect_refused("no file", "cannot read", *llamagen, folder / "none.pt", *rest)
    expect_refused("no config", "cannot read", *llamagen, given, "--config", folder / "none", "--out", out)
    for text, words in [
        ("[model]\nchannels = 32\n", "no model.variant"),
        (PRESET + "norm_groups = 8\n", "norm_groups = 8"),
        ("[model\n", "is no config"),
    ]:
        config.write_text(text)
        expect_refused(text, words, *llamagen, given, *rest)
    config.write_text(PRESET + "norm_groups = 32\n")
    expect_taken("32 groups", ['distance is "euclidean"', 'usual in llamagen is "cosine"'], *llamagen, given, *rest)
    for source, text, words in [
        ("magvit2", PRESET, 'no model.kind = "magvit2"'),
        ("magvit2", '[quantizer]\nkind = "bsq"\n[model]\nkind = "magvit2"\n', 'quantizer.kind = "bsq"'),
        ("cosmos", PRESET, 'the tokenizers of cosmos have "fsq"'),
        ("cosmos", PRESET.replace("vq", "fsq", 1), "no model.haar_levels"),
        ("cosmos", PRESET.replace('"vq"', '"fsq"\nbound = "paper"', 1) + "haar_levels = 2\n", 'quantizer.bound = "paper"'),
        ("showo", PRESET, 'the tokenizers of showo have "lfq"'),
        ("showo", PRESET.replace('"vq"', '"lfq"'), "is no tensor of a tokenizer of showo"),
    ]:
        config.write_text(text)
        expect_refused(text, words, import_weights.main, source, given, *rest)
    (out / "metrics.jsonl").write_text("a run's\n")
    expect_refused("a run", "no imported model", *llamagen, given, *rest)
    expect_refused("a file", "no imported model", *llamagen, given, "--config", config, "--out", given)
    expect_refused("in a file", "cannot write", *llamagen, given, "--config", config, "--out", given / "out")
    return len(good) + len(bad)


def titok(layout: str) -> dict[str, torch.Tensor]:
    """A tokenizer with one block in each half, under TiTok's names."""
    torch.manual_seed(6)
    state = {"latent_tokens": torch.randn(7, 8), "decoder.mask_token": torch.randn(1, 1, 8), "quantize.embedding.weight": torch.randn(CODES, DIM)}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape), torch.randn(shape[0])

    for half in "encoder", "decoder":
        state |= {f"{half}.class_embedding": torch.randn(1, 8), f"{half}.positional_embedding": torch.randn(16, 8)}
        state[f"{half}.latent_token_positional_embedding"] = torch.randn(7, 8)
        block = f"{half}.transformer.0"
        state |= {f"{block}.attn.in_proj_weight": torch.randn(24, 8), f"{block}.attn.in_proj_bias": torch.randn(24)}
        layer(f"{block}.attn.out_proj", 8, 8)
        layer(f"{block}.mlp.c_fc", 32, 8)
        layer(f"{block}.mlp.c_proj", 8, 32)
        for norm in f"{block}.ln_1", f"{block}.ln_2", f"{half}.ln_pre", f"{half}.ln_post":
            layer(norm, 8)
    layer("encoder.patch_embed", 8, 3, 4, 4)
    layer("encoder.conv_out", DIM, 8, 1, 1)
    layer("decoder.decoder_embed", 8, DIM)
    if layout == "vq8k":
        layer("decoder.ffn.0", 48, 8, 1, 1)
        layer("decoder.conv_out", 3, 3, 3, 3)
    else:
        layer("decoder.ffn.0", 16, 8, 1, 1)
        layer("decoder.ffn.2", 20, 16, 1, 1)
        state |= {"pixel_quantize.embedding.weight": torch.randn(20, 6), "pixel_decoder.mid.0.conv1.weight": torch.randn(4, 4, 3, 3)}
        layer("pixel_decoder.up.1.upsample_conv", 4, 4, 3, 3)
        layer("pixel_decoder.conv_in", 4, 6, 3, 3)
    return state


def imports_titok(folder: Path) -> int:
    """Runs files of TiTok's through import_weights.py; returns how many."""
    config, given, out = folder / "titok.toml", folder / "titok.bin", folder / "titok"
    args = import_weights.main, "titok", given, "--config", config, "--out", out
    for layout, distance in ("vq8k", "euclidean"), ("legacy", "cosine"):
        state = titok(layout)
        config.write_text(f'[model]\nkind = "one-d"\nlayout = "{layout}"\n[quantizer]\nkind = "vq"\ndistance = "{distance}"\n')
        numbers = sum(tensor.numel() for tensor in state.values()) + CODES + 1
        for data in saved(under("module.", state) | {"module.quantize.embed_prob": torch.ones(CODES)}), save(state):
            given.write_bytes(data)
            expect_taken(layout, [], *args)
            written = load_file(out / "model.safetensors")
            assert sum(tensor.numel() for tensor in written.values()) == numbers
            assert torch.equal(written["encoder.block0.attention.qkv.bias"], state["encoder.transformer.0.attn.in_proj_bias"])
    state = titok("legacy")
    first_stage = {name: tensor for name, tensor in state.items() if not name.startswith("pixel_")}
    refused = {
        "encoder.other is no tensor": state | {"encoder.other": torch.ones(2)},
        "pixel_decoder.mid.0.conv3.weight is no tensor": state | {"pixel_decoder.mid.0.conv3.weight": torch.ones(2)},
        "decoder of pixels": first_stage,
        'of the layout "vq8k"': titok("vq8k"),
        "no quantize.embedding.weight": {name: tensor for name, tensor in state.items() if not name.startswith("quantize.")},
    }
    for words, found in refused.items():
        given.write_bytes(saved(found))
        expect_refused(words, words, *args)
    config.write_text('[model]\nkind = "one-d"\n[quantizer]\nkind = "vq"\n')
    text = {"decoder.text_guidance_proj.bias": torch.ones(8)}
    given.write_bytes(saved(titok("vq8k") | text))
    expect_refused("TA-TiTok", "takes the text of an image", *args)
    given.write_bytes(saved(titok("vq8k")))
    config.write_text('[model]\nvariant = "vqgan"\n')
    expect_refused("another network", 'no model.kind = "one-d"', *args)
    return 4 + len(refused) + 2


def converts(folder: Path) -> int:
    """Runs files through convert_weights.py; returns how many."""
    trunk, heads, out = folder / "trunk.pth", folder / "heads.pth", folder / "out.safetensors"
    places, first = convert_weights.TRUNKS["lpips-alex"]
    state = {f"features.{place}.{part}": torch.randn(3) for place in places for part in ("weight", "bias")}
    state |= {"features.0.weight": torch.randn(first), "classifier.6.bias": torch.zeros(5)}
    channels = enumerate(convert_weights.CHANNELS["lpips-alex"])
    lin = {f"lin{i}.model.1.weight": torch.randn(1, width, 1, 1) for i, width in channels}
    args = convert_weights.main, "lpips-alex", "--trunk", trunk, "--heads", heads, "--out", out
    heads.write_bytes(saved(lin))
    good = {
        "alone": saved(state),
        "ddp": saved(under("module.", state)),
        "nested": saved({"state_dict": under("_orig_mod.", state), "args": argparse.Namespace(), "epoch": 3}),
        "legacy": saved(state, _use_new_zipfile_serialization=False),
        "safetensors": save(state),
    }
    for name, data in good.items():
        trunk.write_bytes(data)
        expect_taken(name, [], *args)
        written = load_file(out)
        assert len(written) == 15 and torch.equal(written["features.3.bias"], state["features.3.bias"]), name
    bad = no_weights(folder / "marker")
    for name, (data, words) in bad.items():
        trunk.write_bytes(data)
        expect_refused(name, words, *args)
    trunk.write_bytes(saved(lin))
    expect_refused("heads for a trunk", "no tensor 'features.0.weight'", *args)
    trunk.write_bytes(saved(state))
    expect_refused("no folder", "there is no folder", *args[:-1], folder / "none/out.safetensors")

    counted = {f"{convert_weights.OF_INCEPTION}": torch.ones(3, 5), "fc.weight": torch.ones(2)}
    trunk.write_bytes(saved(under("module.", counted | {"Mixed_7c.bn.num_batches_tracked": torch.tensor(3)})))
    expect_taken("inception", [], convert_weights.main, "inception", "--weights", trunk, "--out", out)
    assert load_file(out).keys() == {convert_weights.OF_INCEPTION}
    return len(good) + len(bad) + 1


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pixtok-weights-") as scratch:
        folder, marker = Path(scratch), Path(scratch) / "marker"
        imported, converted = imports(folder, marker) + imports_titok(folder), converts(folder)
    print(f"OK       weights: {imported} files imported or refused, {converted} converted or refused")


if __name__ == "__main__":
    main()
