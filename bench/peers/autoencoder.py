"""The yardstick's network in PyTorch: that of `configs/photos96-fsq.toml`, with a quantizer of vector-quantize-pytorch.

f4: as many channels as `multipliers` say at each resolution, one residual block in each, GroupNorm and SiLU before every
convolution but the stems. 250,039 parameters with 16 channels and FSQ of four levels, as `pixtok train --dry-run` counts.
"""

import math

import torch
from torch import nn
from vector_quantize_pytorch import FSQ, VectorQuantize

MULTIPLIERS = (1, 2, 4)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels)


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)


class ResBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.branch = nn.Sequential(
            norm(channels_in),
            nn.SiLU(),
            conv(channels_in, channels_out),
            norm(channels_out),
            nn.SiLU(),
            conv(channels_out, channels_out),
        )
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.branch(x)


def encoder(channels: int, latent_channels: int) -> nn.Sequential:
    widths = [channels * multiplier for multiplier in MULTIPLIERS]
    layers = [conv(3, channels)]
    width = channels
    for stage, wider in enumerate(widths):
        layers.append(ResBlock(width, wider))
        width = wider
        if stage < len(widths) - 1:
            layers.append(conv(width, width, stride=2))
    return nn.Sequential(*layers, norm(width), nn.SiLU(), nn.Conv2d(width, latent_channels, 1))


def decoder(channels: int, latent_channels: int) -> nn.Sequential:
    widths = [channels * multiplier for multiplier in MULTIPLIERS]
    width = widths[-1]
    layers = [conv(latent_channels, width)]
    for stage in reversed(range(len(widths))):
        layers.append(ResBlock(width, widths[stage]))
        width = widths[stage]
        if stage > 0:
            layers += [nn.Upsample(scale_factor=2), conv(width, width)]
    return nn.Sequential(*layers, norm(width), nn.SiLU(), conv(width, 3))


class Autoencoder(nn.Module):
    def __init__(self, channels: int, latent_channels: int, quantizer: nn.Module):
        super().__init__()
        self.encoder = encoder(channels, latent_channels)
        self.quantizer = quantizer
        self.decoder = decoder(channels, latent_channels)
        # The quantizers transpose their input, and the decoder computes in the layout that it is given.
        self.plain_latent = False

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]:
        """[B, 3, H, W] -> the reconstruction, the indices [B, h, w], the quantizer's own loss."""
        z = self.encoder(images)
        # Index arithmetic and distances are wrong in bf16.
        with torch.autocast("cpu", enabled=False):
            latent, indices, *losses = self.quantizer(z.float())
        if self.plain_latent:
            latent = latent.contiguous()
        return self.decoder(latent), indices, losses[0].sum() if losses else 0.0


def fsq(channels: int, levels: list[int]) -> tuple[Autoencoder, int]:
    """The network, and how many codes it has."""
    return Autoencoder(channels, len(levels), FSQ(levels)), math.prod(levels)


def vq(channels: int, codebook_size: int, codebook_dim: int = 8, restart: bool = False) -> tuple[Autoencoder, int]:
    """The same with VQ: moving average, k-means start and straight-through gradient, as in photos96-vq.toml. With `restart`,
    dead codes are restarted as in quickstart-vq.toml."""
    quantizer = VectorQuantize(
        dim=codebook_dim,
        codebook_size=codebook_size,
        decay=0.99,
        commitment_weight=0.25,
        accept_image_fmap=True,
        kmeans_init=True,
        kmeans_iters=10,
        threshold_ema_dead_code=1 if restart else 0,
        rotation_trick=False,
    )
    return Autoencoder(channels, codebook_dim, quantizer), codebook_size
