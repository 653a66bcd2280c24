"""Published tokenizers' networks, transcribed from taming-transformers (`VQModel`) and LlamaGen (`VQ_models`), small and with random weights:
what `scripts/import_weights.py` makes of their state dicts, and what they make of images.

The transcription names everything as the originals do. LlamaGen's network is taming's under other names; its codes and latents
are normalised. Latents whose two nearest codes are nearly as near are refused.

Keys: `weights/{name}`, of both, as pixtok has them. For `taming` and `llamagen`: `{source}/images` [2, 3, 24, 40] in -1..1, `{source}/latents`,
`{source}/indices` [2, 12, 20], `{source}/recon`. `{source}/parameters`: [1], those of the published sizes, without the codes.
"""

import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from common import clear_choice, generator, save

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import import_weights

# Channels, multipliers, residual blocks, sides with attention, image size, z channels.
SMALL = (32, (1, 2), 1, (12,), 24, 10)
PUBLISHED = (128, (1, 1, 2, 2, 4), 2, (16,), 256, 256)
CODES, DIM = 24, 6


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels_in), nn.Conv2d(channels_in, channels_out, 3, 1, 1)
        self.norm2, self.conv2 = norm(channels_out), nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class AttnBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        b, c, height, width = q.shape
        weights = torch.bmm(q.reshape(b, c, -1).permute(0, 2, 1), k.reshape(b, c, -1)) * c**-0.5
        weights = F.softmax(weights, dim=2)
        h = torch.bmm(v.reshape(b, c, -1), weights.permute(0, 2, 1)).reshape(b, c, height, width)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2, 0)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Half(nn.Module):
    """Encoder or decoder, whose levels and middle are named by `source`."""

    def __init__(self, source, half, sizes):
        super().__init__()
        channels, multipliers, blocks, attended, side, z_channels = sizes
        widths = [channels * multiplier for multiplier in multipliers]
        levels, self.source, self.half = [], source, half
        if half == "encoder":
            self.conv_in = nn.Conv2d(3, channels, 3, 1, 1)
            order, previous = range(len(widths)), channels
        else:
            self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, 1, 1)
            order, previous, blocks = range(len(widths) - 1, -1, -1), widths[-1], blocks + 1
        names = ("block", "attn") if source == "taming" else ("res", "attn")
        for level in order:
            part = nn.Module()
            res, attention = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks):
                res.append(ResnetBlock(previous, widths[level]))
                previous = widths[level]
                if side >> level in attended:
                    attention.append(AttnBlock(previous))
            part.add_module(names[0], res)
            part.add_module(names[1], attention)
            if half == "encoder" and level < len(widths) - 1:
                part.downsample = Downsample(previous)
            if half == "decoder" and level > 0:
                part.upsample = Upsample(previous)
            levels.append(part)
        middle = [ResnetBlock(widths[-1], widths[-1]), AttnBlock(widths[-1]), ResnetBlock(widths[-1], widths[-1])]
        if source == "taming":
            # `up` is in the order of the levels, though the decoder goes through it backward.
            levels = levels if half == "encoder" else levels[::-1]
            self.add_module("down" if half == "encoder" else "up", nn.ModuleList(levels))
            self.mid = nn.Module()
            self.mid.block_1, self.mid.attn_1, self.mid.block_2 = middle
        else:
            self.conv_blocks, self.mid = nn.ModuleList(levels), nn.ModuleList(middle)
        self.norm_out = norm(previous if half == "decoder" else widths[-1])
        self.conv_out = nn.Conv2d(previous if half == "decoder" else widths[-1], 3 if half == "decoder" else z_channels, 3, 1, 1)

    def levels(self):
        if self.source == "llamagen":
            return self.conv_blocks
        return self.down if self.half == "encoder" else list(self.up)[::-1]

    def middle(self, x):
        parts = self.mid if self.source == "llamagen" else (self.mid.block_1, self.mid.attn_1, self.mid.block_2)
        for part in parts:
            x = part(x)
        return x

    def forward(self, x):
        x = self.conv_in(x)
        if self.half == "decoder":
            x = self.middle(x)
        for level in self.levels():
            attention = level.attn
            for place, block in enumerate(level.block if self.source == "taming" else level.res):
                x = block(x)
                if len(attention) > 0:
                    x = attention[place](x)
            for change in ("downsample", "upsample"):
                x = getattr(level, change)(x) if hasattr(level, change) else x
        if self.half == "encoder":
            x = self.middle(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Tokenizer(nn.Module):
    def __init__(self, source, sizes, codes, dim):
        super().__init__()
        self.encoder, self.decoder = Half(source, "encoder", sizes), Half(source, "decoder", sizes)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(codes, dim)
        self.quant_conv = nn.Conv2d(sizes[-1], dim, 1)
        self.post_quant_conv = nn.Conv2d(dim, sizes[-1], 1)
        self.cosine = source == "llamagen"

    def forward(self, images):
        latents = self.quant_conv(self.encoder(images))
        z, codes = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]), self.quantize.embedding.weight
        if self.cosine:
            z, codes = F.normalize(z, dim=-1), F.normalize(codes, dim=-1)
        indices = clear_choice(torch.cdist(z.double(), codes.double(), compute_mode="donot_use_mm_for_euclid_dist"), 1e-4)
        b, _, h, w = latents.shape
        quantized = codes[indices].view(b, h, w, -1).permute(0, 3, 1, 2)
        return latents, indices.view(b, h, w), self.decoder(self.post_quant_conv(quantized))


def imported(source, model):
    """What the script writes of a checkpoint as the originals save it."""
    state = model.state_dict()
    preset = 'model = { variant = "vqgan" }\nquantizer = { kind = "vq" }\n'
    extra = {"loss.discriminator.main.0.weight": torch.zeros(3)} if source == "taming" else {"quantize.codebook_used": torch.zeros(9)}
    key = {"taming": "state_dict", "llamagen": "ema"}[source]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        torch.save({key: state | extra, "epoch": 3}, folder / "published.ckpt")
        (folder / "config.toml").write_text(preset)
        import_weights.main([source, f"{folder}/published.ckpt", "--config", f"{folder}/config.toml", "--out", f"{folder}/out"])
        assert (folder / "out/config.toml").read_text() == preset
        written = load_file(folder / "out/model.safetensors")
    for strange in ("encoder.other.weight", "encoder.conv_in.scale"):
        try:
            import_weights.convert(source, state | {strange: torch.zeros(1)})
            raise AssertionError(f"{strange} was taken")
        except import_weights.Unfit as error:
            assert strange in str(error)
    return written


def main():
    tensors = {}
    for source in ("taming", "llamagen"):
        torch.manual_seed(31)
        model = Tokenizer(source, SMALL, CODES, DIM)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    # The same in whatever order the source names them.
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator(len(parameter))))
            # Latents far apart, so that rounding decides no index.
            model.quant_conv.weight.mul_(20)
            images = torch.rand(2, 3, 24, 40, generator=generator(32)) * 2 - 1
            latents = model.quant_conv(model.encoder(images))
            # The codes lie where the latents do.
            model.quantize.embedding.weight.copy_(latents.permute(0, 2, 3, 1).reshape(-1, DIM)[:: 480 // CODES][:CODES])
            latents, indices, recon = model(images)
        assert len(indices.unique()) > CODES // 2
        named = {"images": images, "latents": latents, "indices": indices, "recon": recon}
        with torch.device("meta"):
            published = Tokenizer(source, PUBLISHED, 1, 8 if source == "llamagen" else 256)
        named["parameters"] = torch.tensor([sum(parameter.numel() for name, parameter in published.named_parameters() if "embedding" not in name)])
        print(source, named["parameters"].item())
        tensors |= {f"{source}/{name}": tensor for name, tensor in named.items()}
        weights = {f"weights/{name}": tensor for name, tensor in imported(source, model).items()}
        # Under our names both are one network.
        assert all(torch.equal(tensors.get(name, tensor), tensor) for name, tensor in weights.items())
        tensors |= weights
    save("imported", tensors)


main()
