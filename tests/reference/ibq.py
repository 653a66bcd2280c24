"""IBQ (arXiv 2412.02692, equations 4 to 7) transcribed in float64 from the official IndexPropagationQuantize, without the
1e-5 that its entropies add to probabilities.

Keys as in `common.record`, for the case `ibq`: K = 32, D = 8, latents of [3, 8, 5, 7], entropy temperature 0.2.
"""

import torch
import torch.nn.functional as F

from common import clear_choice, generator, record, save
from library import vectors

SIZE, DIM, SHAPE, TEMPERATURE = 32, 8, [3, 8, 5, 7], 0.2


def main():
    random = generator(17)
    z, g = (0.7 * torch.randn(SHAPE, generator=random).double() for _ in range(2))
    codebook = 0.7 * torch.randn(SIZE, DIM, generator=random).double()
    z.requires_grad_(), codebook.requires_grad_()
    grid = lambda codes: codes.view(SHAPE[0], *SHAPE[2:], -1).permute(0, 3, 1, 2)

    logits = vectors(z) @ codebook.T
    indices = clear_choice(-logits.detach())
    p = logits.softmax(-1)
    hard = F.one_hot(indices, SIZE).double()
    latent = grid((hard + p - p.detach()) @ codebook)
    codes = grid(hard @ codebook)
    sharp = logits / TEMPERATURE
    mean = sharp.softmax(-1).mean(0)
    losses = {
        "quantization": F.mse_loss(latent, z),
        "commitment": F.mse_loss(codes.detach(), z),
        "codebook": F.mse_loss(codes, z.detach()),
        "entropy": -(sharp.softmax(-1) * sharp.log_softmax(-1)).sum(-1).mean() + (mean * mean.log()).sum(),
    }
    indices = indices.view(SHAPE[0], *SHAPE[2:])
    save("ibq", record("ibq", z, g, latent, indices, losses, {"codebook": codebook}))


main()
