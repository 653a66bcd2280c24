"""The Haar transform and the networks of Cosmos' image tokenizers, transcribed from NVIDIA/Cosmos-Tokenizer (modules/patching.py,
modules/layers2d.py, modules/quantizers.py), and Show-o's network from showlab/Show-o (models/modeling_magvitv2.py), all under the original
names, small, and through `scripts/import_weights.py`.

Keys:
- `transform/{levels}/forward` [2, 3 · 4^levels, 8 / 2^levels, 12 / 2^levels] of images by the formula, and `transform/{levels}/inverse`
  [2, 3, 8, 12] of bands by the formula; `transform/{levels}/grad/{forward,inverse}`: of their products with a probe.
- those of `formula.py` under `di16x16/`, `di8x8/`, `360p/` (patch, strides and levels as in the tokenizers of these names) and
  `showo/`; those of variables in `di8x8` alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

from common import save
from formula import check_import, fill, images, probe, record

# Patch, spatial compression, image size.
COSMOS = {"di16x16": (4, 16, (32, 48)), "di8x8": (4, 8, (24, 40)), "360p": (2, 16, (32, 48))}
CHANNELS, MULTIPLIERS, Z_CHANNELS, LEVELS = 64, (1, 1, 2), 10, (8, 5, 5)
# Of Show-o: multipliers and blocks of the encoder, then of the decoder; bits.
SHOWO = ((1, 2, 2), (2, 1, 1), (1, 1, 2), (1, 2, 1), 5)


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Wavelets(nn.Module):
    """One level makes four bands of each channel; `patch` is 2 to the number of levels."""

    def __init__(self, patch):
        super().__init__()
        self.levels = patch.bit_length() - 1
        # Saved in the published files of TorchScript.
        self.register_buffer("wavelets", torch.tensor([0.7071067811865476, 0.7071067811865476], dtype=torch.float64))
        self.register_buffer("_arange", torch.arange(2))

    def filters(self, channels):
        low = self.wavelets.flip(0).view(1, 1, 2).repeat(channels, 1, 1)
        high = (self.wavelets * (-1) ** self._arange).view(1, 1, 2).repeat(channels, 1, 1)
        return low, high


class Patcher(Wavelets):
    def forward(self, x):
        for _ in range(self.levels):
            channels = x.shape[1]
            low, high = self.filters(channels)
            x = F.pad(x, (0, 1, 0, 1), mode="reflect")
            columns = [F.conv2d(x, each.unsqueeze(2), groups=channels, stride=(1, 2)) for each in (low, high)]
            bands = [F.conv2d(part, each.unsqueeze(3), groups=channels, stride=(2, 1)) for part in columns for each in (low, high)]
            x = torch.cat(bands, dim=1) / 2
        return x


class UnPatcher(Wavelets):
    def forward(self, x):
        for _ in range(self.levels):
            channels = x.shape[1] // 4
            low, high = self.filters(channels)
            ll, lh, hl, hh = x.chunk(4, dim=1)
            rows = lambda part, each: F.conv_transpose2d(part, each.unsqueeze(3), groups=channels, stride=(2, 1))
            columns = lambda part, each: F.conv_transpose2d(part, each.unsqueeze(2), groups=channels, stride=(1, 2))
            lows, highs = rows(ll, low) + rows(lh, high), rows(hl, low) + rows(hh, high)
            x = (columns(lows, low) + columns(highs, high)) * 2
        return x


class ResnetBlock(nn.Module):
    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.norm1, self.conv1 = norm(channels_in), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2, self.conv2 = norm(channels_out), nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class AttnBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k * x.shape[1] ** -0.5).softmax(dim=2)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view(x.shape))


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = ResnetBlock(channels, channels), AttnBlock(channels), ResnetBlock(channels, channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Resample(nn.Module):
    def __init__(self, channels, down):
        super().__init__()
        self.conv, self.down = nn.Conv2d(channels, channels, 3, stride=2) if down else nn.Conv2d(channels, channels, 3, padding=1), down

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.down else x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def level(count, channels_in, channels_out, **resample):
    part = nn.Module()
    part.block = nn.ModuleList(ResnetBlock(channels_out if place else channels_in, channels_out) for place in range(count))
    part.attn = nn.ModuleList()
    for name, wanted in resample.items():
        if wanted:
            part.add_module(name, Resample(channels_out, name == "downsample"))
    return part


def run(part, x):
    for block in part.block:
        x = block(x)
    for name in ("downsample", "upsample"):
        x = getattr(part, name)(x) if hasattr(part, name) else x
    return x


class Encoder(nn.Module):
    def __init__(self, channels_in, multipliers, blocks, downsamples, z_channels):
        super().__init__()
        self.conv_in = nn.Conv2d(channels_in, CHANNELS, 3, padding=1)
        widths = [CHANNELS * multiplier for multiplier in (1, *multipliers)]
        self.down = nn.ModuleList(
            level(blocks[i], widths[i], widths[i + 1], downsample=i < downsamples) for i in range(len(multipliers))
        )
        self.mid = Middle(widths[-1])
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for part in self.down:
            x = run(part, x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, channels_out, multipliers, blocks, upsamples, z_channels):
        super().__init__()
        widths = [CHANNELS * multiplier for multiplier in (*multipliers, multipliers[-1])]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            level(blocks[i], widths[i + 1], widths[i], upsample=i >= len(multipliers) - upsamples) for i in range(len(multipliers))
        )
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], channels_out, 3, padding=1)

    def forward(self, x):
        x = self.mid(self.conv_in(x))
        for part in reversed(self.up):
            x = run(part, x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Cosmos(nn.Module):
    """The decoder has one residual block a level more than the encoder."""

    def __init__(self, patch, compression):
        super().__init__()
        steps = (compression // patch).bit_length() - 1
        self.encoder = Encoder(3 * patch**2, MULTIPLIERS, [1] * 3, steps, Z_CHANNELS)
        self.decoder = Decoder(3 * patch**2, MULTIPLIERS, [2] * 3, steps, Z_CHANNELS)
        self.encoder.patcher, self.decoder.unpatcher = Patcher(patch), UnPatcher(patch)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(Z_CHANNELS, len(LEVELS), 1), nn.Conv2d(len(LEVELS), Z_CHANNELS, 1)
        self.quantizer = nn.Module()
        self.quantizer.register_buffer("_levels", torch.tensor(LEVELS, dtype=torch.int32))

    def encode(self, x):
        return self.quant_conv(self.encoder(self.encoder.patcher(x)))

    def quantize(self, latents):
        levels = self.quantizer._levels.view(-1, 1, 1)
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = (latents + (offset / half).atanh()).tanh() * half - offset
        assert ((bounded - bounded.floor() - 0.5).abs() > 1e-4).all(), "rounding could decide a digit: choose other images"
        digits = bounded.round() + levels // 2
        basis = torch.tensor([1, *LEVELS[:-1]]).cumprod(0).view(-1, 1, 1)
        return (digits * basis).sum(1).long(), bounded.round() / (levels // 2)

    def decode(self, codes):
        return self.decoder.unpatcher(self.decoder(self.post_quant_conv(codes)))

    @staticmethod
    def half(name):
        return {"quant_conv": "encoder", "post_quant_conv": "decoder"}.get(name.split(".")[0], name.split(".")[0])


class Showo(nn.Module):
    """The first channel of a code is the highest bit. Here all latents and codes have pixtok's order, the lowest first."""

    def __init__(self):
        super().__init__()
        down, down_blocks, up, up_blocks, bits = SHOWO
        self.encoder, self.decoder = Encoder(3, down, down_blocks, len(down) - 1, bits), Decoder(3, up, up_blocks, len(up) - 1, bits)
        self.encoder.quant_conv, self.decoder.post_quant_conv = nn.Conv2d(bits, bits, 1), nn.Conv2d(bits, bits, 1)
        self.quantize_buffers = {"quantize.embedding": torch.zeros(2**bits, bits), "quantize.power_vals": 2 ** torch.arange(bits - 1, -1, -1)}

    def encode(self, x):
        return self.encoder.quant_conv(self.encoder(x)).flip(1)

    def quantize(self, latents):
        assert latents.abs().min() > 1e-4, "rounding could decide a sign: choose other images"
        signs = (latents.flip(1) > 0).double()
        indices = (signs * self.quantize_buffers["quantize.power_vals"].view(-1, 1, 1)).sum(1).long()
        return indices, signs.flip(1) * 2 - 1

    def decode(self, codes):
        return self.decoder(self.decoder.post_quant_conv(codes.flip(1)))

    @staticmethod
    def half(name):
        return name.split(".")[0]


def transforms():
    found = {}
    for levels in (1, 2):
        given = {"forward": images("transform", 2, 3, 8, 12), "inverse": probe("transform/bands", (2, 3 * 4**levels, 8 >> levels, 12 >> levels))}
        for name, transform in ("forward", Patcher(1 << levels)), ("inverse", UnPatcher(1 << levels)):
            x = given[name].requires_grad_()
            y = transform(x)
            (gradient,) = torch.autograd.grad((y * probe(f"transform/{name}", tuple(y.shape))).sum(), x)
            found |= {f"transform/{levels}/{name}": y.float(), f"transform/{levels}/grad/{name}": gradient.float()}
        assert torch.allclose(UnPatcher(1 << levels)(Patcher(1 << levels)(given["forward"])), given["forward"])
    return found


def checkpoint(model):
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}


def main():
    tensors = transforms()
    for case, (patch, compression, size) in COSMOS.items():
        model = Cosmos(patch, compression).double()
        fill("cosmos", model)
        tensors |= record(case, "cosmos", model, images(case, 1, 3, *size), variables=case == "di8x8")
        config = 'model = { variant = "vqgan", haar_levels = 2 }\nquantizer = { kind = "fsq" }\n'
        check_import("cosmos", config, checkpoint(model), model)
    model = Showo().double()
    fill("showo", model)
    tensors |= record("showo", "showo", model, images("showo", 1, 3, 16, 28), variables=False)
    config = 'model = { variant = "vqgan" }\nquantizer = { kind = "lfq" }\n'
    check_import("showo", config, checkpoint(model) | model.quantize_buffers, model)
    save("haar", tensors)


main()
