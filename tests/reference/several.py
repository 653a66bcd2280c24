"""Residual and grouped quantizers by vector-quantize-pytorch.

Keys as in `common.record`, for the cases `residual-vq` (3 stages, by moving average), `residual-fsq` (3 stages, levels 8,
5, 5), `residual-lfq` (2 stages of 5 bits), `grouped-vq` (2 groups), `grouped-fsq` (2 groups, levels 8, 5, 5). Indices are
[2, 5, 7, parts].

Where the library returns one loss per stage, ours is their sum; where it returns one per group, ours is their mean, so
that a mean over elements stays one over all elements of the latent.
"""

import torch
import vector_quantize_pytorch.lookup_free_quantization as lookup_free
from vector_quantize_pytorch import FSQ, GroupedResidualVQ, ResidualFSQ, ResidualLFQ, ResidualVQ

from common import clear_choice, generator, record, save
from library import arguments, start_from, state, vectors

SIZE, DIM, COMMITMENT = 32, 4, 0.25
LEVELS = [8, 5, 5]


def after_of(layers, name):
    ours = {"codebook": "embed", "counts": "cluster_size", "sums": "embed_avg"}
    return {
        f"{name}.{i}.{variable}": state(vq)[library]
        for i, vq in enumerate(layers)
        for variable, library in ours.items()
    }


def variables(codebooks, name):
    return {f"{name}.{i}.{variable}": c for i, c in enumerate(codebooks) for variable in ["codebook", "sums"]}


def assert_clear_stages(z, codebooks):
    rest = vectors(z).double()
    for codebook in codebooks:
        rest = rest - codebook.double()[clear_choice(torch.cdist(rest, codebook.double()))]


def residual_arguments():
    own = dict(
        codebook_size=SIZE,
        codebook_dim=DIM,
        shared_codebook=False,
        diveq=False,
        quantize_dropout=False,
        quantize_dropout_cutoff_index=0,
        quantize_dropout_multiple_of=1,
        implicit_neural_codebook=False,
        mlp_kwargs={},
        beam_size=None,
        eval_beam_size=None,
        beam_score_quantizer_weights=None,
        quant_grad_frac=0.0,
    )
    return own | arguments(accept_image_fmap=False)


def residual_vq(z, g, codebooks):
    residual = ResidualVQ(dim=DIM, num_quantizers=len(codebooks), **residual_arguments())
    for vq, codebook in zip(residual.layers, codebooks):
        start_from(vq, codebook)
    assert_clear_stages(z, codebooks)
    z = z.clone().requires_grad_()
    latent, indices, losses = residual(z.permute(0, 2, 3, 1).reshape(2, 35, DIM))
    latent = latent.view(2, 5, 7, DIM).permute(0, 3, 1, 2)
    losses = {"commitment": losses.sum() / COMMITMENT}
    return record(
        "residual-vq",
        z,
        g,
        latent,
        indices.view(2, 5, 7, -1),
        losses,
        variables(codebooks, "stages"),
        after_of(residual.layers, "stages"),
    )


def grouped_vq(z, g, codebooks):
    grouped = GroupedResidualVQ(
        dim=2 * DIM,
        groups=2,
        num_quantizers=1,
        **residual_arguments(),
    )
    layers = [residual.layers[0] for residual in grouped.rvqs]
    for vq, codebook, part in zip(layers, codebooks, z.chunk(2, dim=1)):
        start_from(vq, codebook)
        assert_clear_stages(part, [codebook])
    z = z.clone().requires_grad_()
    latent, indices, losses = grouped(z.permute(0, 2, 3, 1).reshape(2, 35, 2 * DIM))
    latent = latent.view(2, 5, 7, 2 * DIM).permute(0, 3, 1, 2)
    indices = torch.stack([part[..., 0] for part in indices], dim=-1).view(2, 5, 7, 2)
    losses = {"commitment": losses.mean() / COMMITMENT}
    return record(
        "grouped-vq",
        z,
        g,
        latent,
        indices,
        losses,
        variables(codebooks, "groups"),
        after_of(layers, "groups"),
    )


def residual_fsq(z, g):
    residual = ResidualFSQ(
        levels=LEVELS,
        num_quantizers=3,
        dim=len(LEVELS),
        is_channel_first=False,
        quantize_dropout=False,
        quantize_dropout_cutoff_index=0,
        quantize_dropout_multiple_of=1,
        num_codebooks=1,
        keep_num_codebooks_dim=False,
        allowed_dtypes=(torch.float32, torch.float64),
        channel_first=False,
        soft_clamp_input_value=None,
        bound_hard_clamp=True,
        scale=None,
        projection_has_bias=True,
        return_indices=True,
        force_quantization_f32=True,
        noise_dropout=0.0,
        orthogonal_rotation=False,
    ).train()
    z = z.clone().requires_grad_()
    latent, indices = residual(z.permute(0, 2, 3, 1).reshape(2, 35, -1))
    latent = latent.view(2, 5, 7, -1).permute(0, 3, 1, 2)
    # How far every number of every stage is from a rounding boundary, in levels.
    levels = torch.tensor(LEVELS).double()
    limits = 1 + 1 / (levels - 1)
    rest = limits * (vectors(z.detach()).double() / limits).tanh()
    for stage in range(3):
        scale = levels**-stage
        position = ((rest / scale).clamp(-1, 1) + 1) * (levels - 1) / 2
        assert ((position - position.floor()) - 0.5).abs().min() > 1e-4, "choose another seed"
        rest = rest - (position.round() * 2 / (levels - 1) - 1) * scale
    return record("residual-fsq", z, g, latent, indices.view(2, 5, 7, -1), {}, {})


def grouped_fsq(z, g):
    fsq = FSQ(
        levels=LEVELS,
        dim=2 * len(LEVELS),
        num_codebooks=2,
        keep_num_codebooks_dim=True,
        scale=None,
        allowed_dtypes=(torch.float32, torch.float64),
        channel_first=True,
        projection_has_bias=True,
        return_indices=True,
        force_quantization_f32=True,
        preserve_symmetry=False,
        noise_dropout=0.0,
        bound_hard_clamp=False,
        orthogonal_rotation=False,
    ).train()
    z = z.clone().requires_grad_()
    latent, indices = fsq(z)
    return record("grouped-fsq", z, g, latent, indices, {}, {})


def residual_lfq(z, g):
    # Logarithms and bit order as in binary.py.
    lookup_free.log = lambda t: t.clamp(min=1e-30).log()
    bits = z.shape[1]
    z = z.clone().requires_grad_()

    def run(entropy_weight, commitment_weight):
        residual = ResidualLFQ(
            dim=bits,
            num_quantizers=2,
            codebook_size=2**bits,
            quantize_dropout=False,
            quantize_dropout_cutoff_index=0,
            quantize_dropout_multiple_of=1,
            soft_clamp_input_value=None,
            entropy_loss_weight=entropy_weight,
            commitment_loss_weight=commitment_weight,
            diversity_gamma=1.0,
            straight_through_activation=torch.nn.Identity(),
            num_codebooks=1,
            keep_num_codebooks_dim=False,
            frac_per_sample_entropy=1.0,
            has_projections=False,
            projection_has_bias=True,
            cosine_sim_project_in=False,
            cosine_sim_project_in_scale=None,
            channel_first=False,
            experimental_softplus_entropy_loss=False,
            entropy_loss_offset=5.0,
            spherical=False,
            force_quantization_f32=True,
            orthogonal_rotation=False,
        ).train()
        latent, indices, losses = residual(z.permute(0, 2, 3, 1).reshape(2, 35, -1))
        return latent.view(2, 5, 7, -1).permute(0, 3, 1, 2), indices, losses.sum()

    # One loss at a time.
    latent, indices, entropy = run(1.0, 0.0)
    losses = {"entropy": entropy, "commitment": run(0.0, 1.0)[2]}
    indices = sum(((indices >> i) & 1) << (bits - 1 - i) for i in range(bits)).view(2, 5, 7, -1)
    return record("residual-lfq", z, g, latent, indices, losses, {})


def main():
    random = generator(19)
    draw = lambda *shape: torch.randn(shape, generator=random)
    z, g = draw(2, DIM, 5, 7), draw(2, DIM, 5, 7)
    # Each stage's codes are about as large as what the stages before leave over.
    tensors = residual_vq(z, g, [draw(SIZE, DIM) * 0.6**i for i in range(3)])
    z, g = draw(2, 2 * DIM, 5, 7), draw(2, 2 * DIM, 5, 7)
    tensors |= grouped_vq(z, g, [draw(SIZE, DIM), draw(SIZE, DIM)])
    tensors |= residual_fsq(draw(2, 3, 5, 7), draw(2, 3, 5, 7))
    tensors |= grouped_fsq(draw(2, 6, 5, 7), draw(2, 6, 5, 7))
    tensors |= residual_lfq(0.03 * draw(2, 5, 5, 7), draw(2, 5, 5, 7))
    save("several", tensors)


main()
