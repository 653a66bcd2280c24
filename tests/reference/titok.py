"""TiTok's encoder and decoder, transcribed from bytedance/1d-tokenizer (modeling/titok.py and modules/{blocks,maskgit_vqgan}.py), in both
layouts, small and with random weights: what `scripts/import_weights.py` makes of their state dicts, what they make of images, and gradients.

The transcription names everything as the original does, computes in float64, and has a grid of patches that isn't square. Latents whose
two nearest codes are nearly as near are refused.

Keys, for `vq8k` and `legacy`: `{layout}/weights/{name}`, as pixtok has them; `{layout}/images` [2, 3, H, W] in -1..1, `latents` [2, 7, 5],
`indices` [2, 7], `z_q` [2, 7, 5], `recon` in about -1..1; `g_latents` and `g_recon`, the gradients that arrive at latents and recon, and
`{layout}/grad/{name}`, `grad/images`, `grad/z_q`: what they come to, of the encoder and, from z_q on, of the decoder.
`parameters/{model}`: [1], those of a published model, without the codes of its quantizer.
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
import import_titok
import import_weights

GRID = (3, 5)
CODES = 24
# Width, blocks, heads.
S, B, L = (512, 8, 8), (768, 12, 12), (1024, 24, 16)
# Encoder, decoder, patch, tokens, width of a latent, and, of the legacy layout, codes and their dimension, channels, multipliers, blocks,
# groups.
SMALL = {
    "vq8k": ((12, 1, 3), (16, 1, 2), 4, 7, 5, None),
    "legacy": ((12, 1, 2), (8, 2, 2), 2, 7, 5, (20, 6, 8, (1, 2), 1, 4)),
}
MASKGIT = (1024, 256, 128, (1, 1, 2, 2, 4), 2, 32)
PUBLISHED = {"s128": (S, S, 16, 128, 12, MASKGIT), "bl64_vq8k": (B, L, 16, 64, 64, None)}


class ResidualAttentionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        h = self.ln_1(x).transpose(0, 1)
        x = x + self.attn(h, h, h, need_weights=False)[0].transpose(0, 1)
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


def vectors(count, width):
    return nn.Parameter(torch.randn(count, width) * width**-0.5)


class Half(nn.Module):
    """What encoder and decoder share."""

    def __init__(self, sizes, patches, tokens):
        super().__init__()
        width, blocks, heads = sizes
        self.class_embedding, self.positional_embedding = vectors(1, width), vectors(patches + 1, width)
        self.latent_token_positional_embedding = vectors(tokens, width)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(blocks))

    def through(self, patches, latents):
        """[B, 1 + P + N, width] of [B, P, width] and [B, N, width]."""
        class_token = self.class_embedding.expand(len(patches), 1, -1)
        seen = torch.cat([class_token, patches], 1) + self.positional_embedding
        x = self.ln_pre(torch.cat([seen, latents + self.latent_token_positional_embedding], 1))
        for block in self.transformer:
            x = block(x)
        return x


class Encoder(Half):
    def __init__(self, sizes, patch, patches, tokens, dim, legacy):
        super().__init__(sizes, patches, tokens)
        self.legacy, self.tokens, self.width = legacy, tokens, sizes[0]
        self.patch_embed = nn.Conv2d(3, sizes[0], patch, patch)
        self.conv_out = nn.Conv2d(sizes[0], dim, 1)

    def forward(self, pixels, latent_tokens):
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        latents = latent_tokens.expand(len(pixels), -1, -1)
        x = self.ln_post(self.through(patches, latents)[:, -self.tokens :])
        if self.legacy:
            # The memory of [N, width] is taken for [width, N].
            x = x.reshape(len(x), self.width, self.tokens, 1)
        else:
            x = x.transpose(1, 2)[..., None]
        # [B, dim, 1, N].
        return self.conv_out(x).reshape(len(x), -1, 1, self.tokens)


class Decoder(Half):
    def __init__(self, sizes, patch, patches, tokens, dim, codes):
        super().__init__(sizes, patches, tokens)
        width = sizes[0]
        self.patch = patch
        self.decoder_embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        if codes is None:
            self.ffn = nn.Sequential(nn.Conv2d(width, patch * patch * 3, 1))
            self.conv_out = nn.Conv2d(3, 3, 3, padding=1)
        else:
            self.ffn = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.Tanh(), nn.Conv2d(2 * width, codes, 1))
            self.conv_out = nn.Identity()

    def forward(self, z, grid):
        h, w = grid
        latents = self.decoder_embed(z.squeeze(2).transpose(1, 2))
        x = self.through(self.mask_token.expand(len(z), h * w, -1), latents)[:, 1 : 1 + h * w]
        x = self.ffn(self.ln_post(x).transpose(1, 2).unflatten(2, grid))
        if isinstance(self.conv_out, nn.Identity):
            return x
        # The channels of a patch are (y, x, color).
        p = self.patch
        x = x.unflatten(1, (p, p, 3)).permute(0, 3, 4, 1, 5, 2).reshape(len(z), 3, h * p, w * p)
        return self.conv_out(x)


class ResnetBlock(nn.Module):
    def __init__(self, channels_in, channels_out, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels_in, eps=1e-6), nn.GroupNorm(groups, channels_out, eps=1e-6)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_out, channels_out, 1, bias=False)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        # Of what the block made, not of what came in.
        return h + (self.nin_shortcut(h) if hasattr(self, "nin_shortcut") else x)


class PixelDecoder(nn.Module):
    """MaskGIT-VQGAN's."""

    def __init__(self, dim, channels, multipliers, blocks, groups):
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        self.conv_in = nn.Conv2d(dim, widths[-1], 3, padding=1)
        self.mid = nn.ModuleList(ResnetBlock(widths[-1], widths[-1], groups) for _ in range(blocks))
        levels, previous = [], widths[-1]
        for level in range(len(widths) - 1, -1, -1):
            part = nn.Module()
            part.block = nn.ModuleList()
            for _ in range(blocks):
                part.block.append(ResnetBlock(previous, widths[level], groups))
                previous = widths[level]
            if level > 0:
                part.upsample_conv = nn.Conv2d(previous, previous, 3, padding=1)
            levels.append(part)
        self.up = nn.ModuleList(levels[::-1])
        self.norm_out = nn.GroupNorm(groups, previous, eps=1e-6)
        self.conv_out = nn.Conv2d(previous, 3, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.mid:
            x = block(x)
        for level in reversed(self.up):
            for block in level.block:
                x = block(x)
            if hasattr(level, "upsample_conv"):
                x = level.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


def embedding(count, dim):
    part = nn.Module()
    part.embedding = nn.Embedding(count, dim)
    return part


class TiTok(nn.Module):
    def __init__(self, sizes, grid, codes):
        super().__init__()
        encoder, decoder, patch, tokens, dim, pixels = sizes
        patches, self.legacy = grid[0] * grid[1], pixels is not None
        self.grid = grid
        self.encoder = Encoder(encoder, patch, patches, tokens, dim, self.legacy)
        self.decoder = Decoder(decoder, patch, patches, tokens, dim, pixels and pixels[0])
        self.latent_tokens = vectors(tokens, encoder[0])
        self.quantize = embedding(codes, dim)
        if self.legacy:
            self.pixel_quantize, self.pixel_decoder = embedding(*pixels[:2]), PixelDecoder(*pixels[1:])

    def latents(self, images):
        """[B, N, dim] of images in -1..1."""
        return self.encoder((images + 1) / 2, self.latent_tokens).squeeze(2).transpose(1, 2)

    def quantized(self, latents):
        z, codes = latents.flatten(0, 1), self.quantize.embedding.weight
        if self.legacy:
            z, codes = F.normalize(z, dim=-1), F.normalize(codes, dim=-1)
        indices = clear_choice(torch.cdist(z, codes, compute_mode="donot_use_mm_for_euclid_dist"))
        return indices.view(latents.shape[:2]), codes[indices].view(latents.shape)

    def images(self, z_q):
        """In about -1..1, of [B, N, dim]."""
        x = self.decoder(z_q.transpose(1, 2).unsqueeze(2), self.grid)
        if self.legacy:
            codes = torch.einsum("nchw,cd->ndhw", x.softmax(1), self.pixel_quantize.embedding.weight)
            x = self.pixel_decoder(codes)
        return 2 * x - 1


def imported(layout, state):
    """What the script writes of a checkpoint as the original saves it."""
    distance = import_titok.DISTANCE[layout]
    preset = f'model = {{ kind = "one-d", layout = "{layout}" }}\nquantizer = {{ kind = "vq", distance = "{distance}" }}\n'
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        torch.save(state, folder / "published.bin")
        (folder / "config.toml").write_text(preset)
        import_weights.main(["titok", f"{folder}/published.bin", "--config", f"{folder}/config.toml", "--out", f"{folder}/out"])
        assert (folder / "out/config.toml").read_text() == preset
        return load_file(folder / "out/model.safetensors")


def case(layout):
    torch.manual_seed(41)
    model = TiTok(SMALL[layout], GRID, CODES)
    patch, tokens, dim = SMALL[layout][2:5]
    height, width = GRID[0] * patch, GRID[1] * patch
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                # Scales and shifts that aren't 1 and 0.
                parameter.add_(0.2 * torch.randn(parameter.shape))
    images = torch.rand(2, 3, height, width, generator=generator(42)) * 2 - 1
    # Both sides have the same float32 numbers and differ only in how they compute.
    model, images = model.double(), images.double().requires_grad_()
    latents = model.latents(images)
    with torch.no_grad():
        # The codes lie where latents may be.
        spread = latents.detach().std()
        codes = (torch.randn(CODES, dim, generator=generator(43)).double() * spread + latents.detach().mean((0, 1))).float()
        model.quantize.embedding.weight.copy_(codes)
        indices, z_q = model.quantized(latents)
    assert len(indices.unique()) > 4
    z_q = z_q.float().double().requires_grad_()
    recon = model.images(z_q)
    g_latents, g_recon = (torch.randn(x.shape, generator=generator(44)).double() for x in (latents, recon))
    # Two pieces: the gradient through a quantizer is an estimate, which other numbers are for.
    loss = (latents * g_latents).sum() + (recon * g_recon).sum()
    loss.backward()
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    named = {"images": images, "latents": latents, "z_q": z_q, "recon": recon, "g_latents": g_latents, "g_recon": g_recon}
    named = {name: tensor.detach().float() for name, tensor in named.items()} | {"indices": indices}
    named |= {f"weights/{name}": tensor for name, tensor in imported(layout, state).items()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if name != "quantize.embedding.weight"}
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())
    gradients = import_titok.convert(gradients) | {"images": images.grad, "z_q": z_q.grad}
    named |= {f"grad/{name}": gradient.float() for name, gradient in gradients.items()}
    return {f"{layout}/{name}": tensor for name, tensor in named.items()}


def main():
    tensors = case("vq8k") | case("legacy")
    for model, sizes in PUBLISHED.items():
        with torch.device("meta"):
            published = TiTok(sizes, (16, 16), 1)
        count = sum(parameter.numel() for name, parameter in published.named_parameters() if not name.startswith("quantize."))
        tensors[f"parameters/{model}"] = torch.tensor([count])
        print(model, count)
    save("titok", tensors)


main()
