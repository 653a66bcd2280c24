"""VQ's variants: the rotation trick, DiVeQ and the cosine distance by vector-quantize-pytorch; the cosine distance with a
trained codebook (LlamaGen's VectorQuantizer) and the entropy loss (MaskGIT) by transcriptions in float64.

Keys as in `common.record`, for the cases `rotation`, `diveq`, `cosine`, `cosine-trained`, `entropy`. K = 32, D = 8,
latents of [3, 8, 5, 7].
"""

import torch
import torch.nn.functional as F

from common import clear_choice, generator, record, save
from library import state, vector_quantize, vectors

SIZE, DIM, SHAPE = 32, 8, [3, 8, 5, 7]


def nearest(z, codebook):
    return clear_choice(torch.cdist(vectors(z.detach()).double(), codebook.detach().double()))


def grid(codes, like):
    return codes.view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)


def rotation(z, g, codebook):
    """arXiv 2410.06424, section 4.2."""
    nearest(z, codebook)
    vq, z = vector_quantize(codebook, rotation_trick=True), z.clone().requires_grad_()
    latent, indices, _, parts = vq(z, return_loss_breakdown=True)
    after = state(vq)
    after = {"codebook": after["embed"], "counts": after["cluster_size"], "sums": after["embed_avg"]}
    variables = {"codebook": codebook, "sums": codebook}
    return record("rotation", z, g, latent, indices, {"commitment": parts.commitment}, variables, after)


def diveq(z, g, codebook):
    """The detached variant: no noise in the direction. The library insists on a restart threshold; nothing is under it."""
    nearest(z, codebook)
    vq = vector_quantize(
        codebook,
        directional_reparam=True,
        directional_reparam_variance=0.0,
        threshold_ema_dead_code=1e-6,
        learnable_codebook=True,
        ema_update=False,
        commitment_weight=0.0,
    )
    z = z.clone().requires_grad_()
    latent, indices, _ = vq(z)
    tensors = record("diveq", z, g, latent, indices, {}, {"codebook": vq._codebook.embed})
    # The library has an axis of codebooks in front.
    return {key: value[0] if key.endswith("codebook") else value for key, value in tensors.items()}


def cosine(z, g, codebook):
    codebook = F.normalize(codebook, dim=-1)
    nearest(F.normalize(z, dim=1), codebook)
    vq, z = vector_quantize(codebook, use_cosine_sim=True), z.clone().requires_grad_()
    latent, indices, _, parts = vq(z, return_loss_breakdown=True)
    after = state(vq)
    after = {"codebook": after["embed"], "counts": after["cluster_size"], "sums": after["embed_avg"]}
    variables = {"codebook": codebook, "sums": codebook}
    return record("cosine", z, g, latent, indices, {"commitment": parts.commitment}, variables, after)


def cosine_trained(z, g, codebook):
    """LlamaGen's tokenizer/tokenizer_image/vq_model.py, VectorQuantizer with l2_norm."""
    z, codebook = z.double().requires_grad_(), codebook.double().requires_grad_()
    unit, codes = F.normalize(z, dim=1), F.normalize(codebook, dim=-1)
    indices = nearest(unit, codes)
    chosen = grid(codes[indices], z)
    losses = {"codebook": F.mse_loss(chosen, unit.detach()), "commitment": F.mse_loss(chosen.detach(), unit)}
    latent = unit + (chosen - unit).detach()
    indices = indices.view(z.shape[0], *z.shape[2:])
    return record("cosine-trained", z, g, latent, indices, losses, {"codebook": codebook})


def entropy(z, g, codebook):
    """MaskGIT's `entropy_loss` (maskgit/nets/vqgan_tokenizer.py), softmax: affinity = -distance, temperature 0.1 here (the
    logits of 0.01 are too large for float32 to agree with float64)."""
    z, codebook = z.double().requires_grad_(), codebook.double().requires_grad_()
    indices = nearest(z, codebook)
    chosen = grid(codebook[indices], z)
    affinity = -torch.cdist(vectors(z), codebook).square() / 0.1
    p, log_p = affinity.softmax(-1), affinity.log_softmax(-1)
    mean = p.mean(0)
    losses = {
        "codebook": F.mse_loss(chosen, z.detach()),
        "commitment": F.mse_loss(chosen.detach(), z),
        "entropy": -(p * log_p).sum(-1).mean() + (mean * mean.log()).sum(),
    }
    latent = z + (chosen - z).detach()
    indices = indices.view(z.shape[0], *z.shape[2:])
    return record("entropy", z, g, latent, indices, losses, {"codebook": codebook})


def main():
    random = generator(9)
    draw = lambda *shape: torch.randn(shape, generator=random)
    z, g, codebook = draw(*SHAPE), draw(*SHAPE), draw(SIZE, DIM)
    tensors = rotation(z, g, codebook) | diveq(z, g, codebook) | cosine(z, g, codebook)
    tensors |= cosine_trained(z, g, codebook) | entropy(0.5 * z, g, 0.5 * codebook)
    save("variants", tensors)


main()
