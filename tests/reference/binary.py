"""LFQ and BSQ by vector-quantize-pytorch, and their entropy loss in groups of bits by transcriptions in float64.

Keys as in `common.record`, for the cases `lfq` (5 bits), `lfq-9` (9 bits), `lfq-groups` (12 bits in groups of 9 and 3, as
Open-MAGVIT2 and bsq-vit sum them), `bsq` (6 bits), `bsq-vit` (6 bits in groups of 3, τ = 2, bsq-vit's formulas).

Three differences from the library, on purpose: its LFQ counts the first dimension as the most significant bit and ours as
the least (the indices are converted here); its logarithms are cut off at 1e-5 and ours are not (the cut-off is lowered
to 1e-30 here); its spherical entropy is not divided by τ/2.
"""

import math

import torch
import torch.nn.functional as F
import vector_quantize_pytorch.lookup_free_quantization as lookup_free
from vector_quantize_pytorch import LFQ

from common import generator, record, save
from library import vectors

lookup_free.log = lambda t: t.clamp(min=1e-30).log()


def apart_from_zero(z):
    """No number so near 0 that rounding decides its sign."""
    assert z.abs().min() > 1e-5
    return z


def reversed_bits(indices, bits):
    return sum(((indices >> i) & 1) << (bits - 1 - i) for i in range(bits))


def by_library(case, z, g, bits, *, spherical, inverse_temperature):
    lfq = LFQ(
        dim=bits,
        codebook_size=2**bits,
        entropy_loss_weight=0.1,
        commitment_loss_weight=0.25,
        diversity_gamma=1.0,
        straight_through_activation=torch.nn.Identity(),
        num_codebooks=1,
        keep_num_codebooks_dim=False,
        codebook_scale=1.0,
        frac_per_sample_entropy=1.0,
        has_projections=False,
        projection_has_bias=True,
        soft_clamp_input_value=None,
        cosine_sim_project_in=False,
        cosine_sim_project_in_scale=None,
        channel_first=True,
        experimental_softplus_entropy_loss=False,
        entropy_loss_offset=5.0,
        spherical=spherical,
        force_quantization_f32=True,
        orthogonal_rotation=False,
    ).train()
    z = apart_from_zero(z).clone().requires_grad_()
    (latent, indices, _), parts = lfq(z, inv_temperature=inverse_temperature, return_loss_breakdown=True)
    entropy = parts.per_sample_entropy - parts.batch_entropy
    if spherical:
        # Its p ∝ exp(2·inverse_temperature·uᵀc), so that τ is twice that; ours is divided by τ/2, as bsq-vit's.
        entropy = entropy / inverse_temperature
    else:
        indices = reversed_bits(indices, bits)
    losses = {"commitment": parts.commitment, "entropy": entropy}
    return record(case, z, g, latent, indices, losses, {})


def entropy_in_groups(log_odds, sizes):
    """Σ over groups of E[H(p)] − H(E[p]); log_odds: [N, d]."""
    total = 0
    for group in log_odds.split(sizes, dim=-1):
        bits = group.shape[-1]
        ones = ((torch.arange(2**bits)[:, None] >> torch.arange(bits)) & 1).double()
        # The probability of a combination is the product of those of its bits.
        p = torch.where(ones == 1, group.sigmoid()[:, None], (-group).sigmoid()[:, None]).prod(-1)
        mean = p.mean(0)
        total += -(p * p.log()).sum(-1).mean() + (mean * mean.log()).sum()
    return total


def lfq_groups(z, g, sizes, temperature):
    """arXiv 2310.05737, equations 3 to 5, p ∝ exp(−‖z − c‖²/τ)."""
    z = apart_from_zero(z).double().requires_grad_()
    codes = torch.where(z > 0, 1.0, -1.0).double()
    weights = (2 ** torch.arange(z.shape[1])).view(-1, 1, 1)
    losses = {
        "commitment": F.mse_loss(z, codes),
        "entropy": entropy_in_groups(4 * vectors(z) / temperature, sizes),
    }
    latent = z + (codes - z).detach()
    return record("lfq-groups", z, g, latent, ((codes > 0) * weights).sum(1), losses, {})


def bsq_vit(z, g, sizes):
    """arXiv 2406.07548, section 4, and bsq-vit's transcoder/models/quantizer/bsq.py (inv_temperature 1, which is τ = 2 in
    p ∝ exp(τ·uᵀc); soft_entropy with groups); its commitment sums over dimensions, this one is a mean."""
    z = apart_from_zero(z).double().requires_grad_()
    d, inv_temperature = z.shape[1], 1.0
    u = F.normalize(z, dim=1)
    codes = torch.where(u > 0, 1.0, -1.0).double() / math.sqrt(d)
    weights = (2 ** torch.arange(d - 1, -1, -1)).view(-1, 1, 1)
    # prob = sigmoid(-4 z / sqrt(d) * inv_temperature) is that of a bit not set.
    entropy = entropy_in_groups(4 * inv_temperature * vectors(u) / math.sqrt(d), sizes)
    losses = {"commitment": F.mse_loss(u, codes), "entropy": entropy / inv_temperature}
    latent = u + (codes - u).detach()
    return record("bsq-vit", z, g, latent, ((codes > 0) * weights).sum(1), losses, {})


def main():
    random = generator(13)
    draw = lambda bits: torch.randn([2, bits, 5, 7], generator=random)
    # Softer than by default, so that the probabilities are no mere zeros and ones.
    tensors = by_library("lfq", draw(5), draw(5), 5, spherical=False, inverse_temperature=1.0)
    tensors |= by_library("lfq-9", draw(9), draw(9), 9, spherical=False, inverse_temperature=0.5)
    tensors |= lfq_groups(draw(12), draw(12), [9, 3], temperature=2.0)
    tensors |= by_library("bsq", draw(6), draw(6), 6, spherical=True, inverse_temperature=4.0)
    tensors |= bsq_vit(draw(6), draw(6), [3, 3])
    save("binary", tensors)


main()
