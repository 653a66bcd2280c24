"""SimVQ by vector-quantize-pytorch, straight-through and with the rotation trick, without a bias (its own map) and with
one (the official code's).

Keys as in `common.record`, for the cases `straight-through`, `rotation`, `bias`. K = 32, D = 8, latents of [3, 8, 5, 7].
"""

import torch
import torch.nn.functional as F
from torch import nn
from vector_quantize_pytorch import SimVQ

from common import clear_choice, generator, record, save
from library import vectors

SIZE, DIM, SHAPE = 32, 8, [3, 8, 5, 7]


def run(case, z, g, *, rotation_trick, bias):
    torch.manual_seed(3)
    sim = SimVQ(
        dim=DIM,
        codebook_size=SIZE,
        codebook_transform=nn.Linear(DIM, DIM, bias=bias),
        init_fn=lambda codebook: codebook,
        channel_first=True,
        rotation_trick=rotation_trick,
        input_to_quantize_commit_loss_weight=0.25,
        commitment_weight=1.0,
        frozen_codebook_dim=DIM,
    )
    clear_choice(torch.cdist(vectors(z).double(), sim.codebook.detach().double()))
    z = z.clone().requires_grad_()
    latent, indices, loss = sim(z)
    # The library returns the sum; the terms apart are these.
    codes = sim.indices_to_codes(indices)
    losses = {"codebook": F.mse_loss(z.detach(), codes), "commitment": F.mse_loss(z, codes.detach())}
    torch.testing.assert_close(losses["codebook"] + 0.25 * losses["commitment"], loss)
    parameters = {"frozen": sim.frozen_codebook, "map": sim.code_transform.weight}
    if bias:
        parameters["map_bias"] = sim.code_transform.bias
    return record(case, z, g, latent, indices, losses, parameters)


def main():
    random = generator(11)
    z, g = (torch.randn(SHAPE, generator=random) for _ in range(2))
    tensors = run("straight-through", 0.3 * z, g, rotation_trick=False, bias=False)
    tensors |= run("rotation", 0.3 * z, g, rotation_trick=True, bias=False)
    tensors |= run("bias", 0.3 * z, g, rotation_trick=False, bias=True)
    save("simvq", tensors)


main()
