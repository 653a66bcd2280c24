"""FSQ by the official notebook's formulas (`paper`), by vector-quantize-pytorch (`tanh`) and by a transcription of the
symmetric grid (`sigmoid`).

Keys: `{levels}/z`, `{levels}/g` (the gradient that arrives at the latent) and `{levels}/{bound}/{latent,indices,dz}`,
with levels as `8-5-5-5` and bound one of `paper`, `tanh`, `sigmoid-1.0`, `sigmoid-1.6`, `sigmoid-2.0`.
"""

import torch
from vector_quantize_pytorch import FSQ

from common import generator, save

LEVELS = [[8, 5, 5, 5], [5, 3], [8, 6, 5], [7, 5, 5, 5, 5], [8, 8, 8, 5, 5, 5]]
SLOPES = [1.0, 1.6, 2.0]
# No value may lie this close to a rounding boundary: the last bit of a tanh must not decide an index.
MARGIN = 1e-4


def round_ste(x):
    return x + (torch.round(x) - x).detach()


def paper_bound(z, levels, eps=1e-3):
    """https://github.com/google-research/google-research/tree/master/fsq, fsq.ipynb, `FSQ.bound`. z: [..., d]."""
    levels = torch.tensor(levels, dtype=torch.float32)
    half_l = (levels - 1) * (1 - eps) / 2
    offset = torch.where(levels % 2 == 1, 0.0, 0.5)
    shift = torch.tan(offset / half_l)
    return torch.tanh(z + shift) * half_l - offset


def tanh_bound(z, levels, eps=1e-3):
    """vector-quantize-pytorch's bound before its rounding, only to see how near a boundary a value is."""
    levels = torch.tensor(levels, dtype=torch.float32)
    half_l = (levels - 1) * (1 + eps) / 2
    offset = torch.where(levels % 2 == 1, 0.0, 0.5)
    return torch.tanh(z + torch.atanh(offset / half_l)) * half_l - offset


def sigmoid_bound(z, levels, slope):
    """0 to L - 1, without an offset."""
    return (torch.tensor(levels, dtype=torch.float32) - 1) * torch.sigmoid(slope * z)


def basis(levels):
    return torch.cumprod(torch.tensor([1] + levels[:-1]), dim=0)


def index(digits, levels):
    """First dimension fastest."""
    return (digits.round().long() * basis(levels)).sum(-1)


def paper(z, levels):
    """The notebook's `quantize` and `codes_to_indexes`."""
    half_width = torch.tensor(levels) // 2
    codes = round_ste(paper_bound(z, levels)) / half_width
    return codes, index(codes.detach() * half_width + half_width, levels)


def sigmoid(z, levels, slope):
    digits = round_ste(sigmoid_bound(z, levels, slope))
    return 2 * digits / (torch.tensor(levels) - 1) - 1, index(digits.detach(), levels)


def library(levels, *, preserve_symmetry=False):
    return FSQ(
        levels=levels,
        dim=len(levels),
        num_codebooks=1,
        keep_num_codebooks_dim=False,
        scale=None,
        allowed_dtypes=(torch.float32, torch.float64),
        channel_first=False,
        projection_has_bias=True,
        return_indices=True,
        force_quantization_f32=True,
        preserve_symmetry=preserve_symmetry,
        noise_dropout=0.0,
        bound_hard_clamp=False,
        orthogonal_rotation=False,
    )


def near_boundary(z, levels):
    bounds = [paper_bound(z, levels), tanh_bound(z, levels)]
    bounds += [sigmoid_bound(z, levels, slope) for slope in SLOPES]
    return torch.stack([((b - b.floor()) - 0.5).abs() < MARGIN for b in bounds]).any(0)


def latents(levels, random):
    """[2, d, 5, 7], drawn again wherever a value is near a boundary of any bound."""
    z = 2 * torch.randn([2, 5, 7, len(levels)], generator=random)
    while (near := near_boundary(z, levels)).any():
        z = torch.where(near, 2 * torch.randn(z.shape, generator=random), z)
    return z.permute(0, 3, 1, 2).contiguous()


def run(z, g, quantize):
    """`quantize` works on [B, d, h, w]."""
    z = z.clone().requires_grad_()
    latent, indices = quantize(z)
    latent.backward(g)
    return {"latent": latent, "indices": indices.long(), "dz": z.grad}


def channels_last(quantize):
    def on_images(z):
        latent, indices = quantize(z.permute(0, 2, 3, 1))
        return latent.permute(0, 3, 1, 2), indices

    return on_images


def main():
    tensors = {}
    for seed, levels in enumerate(LEVELS):
        random = generator(seed)
        name = "-".join(map(str, levels))
        z = latents(levels, random)
        g = torch.randn(z.shape, generator=random)
        results = {"paper": run(z, g, channels_last(lambda x: paper(x, levels))), "tanh": run(z, g, library(levels))}
        for slope in SLOPES:
            results[f"sigmoid-{slope}"] = run(z, g, channels_last(lambda x: sigmoid(x, levels, slope)))
        digits = (results["tanh"]["latent"] + 1) * (torch.tensor(levels) // 2).view(-1, 1, 1)
        assert (results["tanh"]["indices"] == index(digits.detach().permute(0, 2, 3, 1), levels)).all(), "index order"
        symmetric = library(levels, preserve_symmetry=True)(z)[1]
        assert (results["sigmoid-2.0"]["indices"] == symmetric).all(), "slope 2 is tanh on the symmetric grid"
        tensors |= {f"{name}/z": z, f"{name}/g": g}
        tensors |= {f"{name}/{bound}/{key}": value for bound, r in results.items() for key, value in r.items()}
    save("fsq", tensors)


main()
