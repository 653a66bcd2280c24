"""VQ by vector-quantize-pytorch: moving averages, restart, a trained codebook, k-means.

Every case has K = 32, D = 8 and latents of [3, 8, 5, 7]. Keys:
- `z1`, `z2`, `g1`, `g2` (gradients that arrive at the latent), `codebook` (the initial one);
- `ema/{1,2}/{latent,indices,commitment,dz_latent,dz_losses,embed,cluster_size,embed_avg}`: two training steps in a row,
  state after each; `commitment` is unweighted, `dz_latent` the gradient of (latent · g).sum(), `dz_losses` that of
  0.25 · commitment (apart, for the second is a thousandth of the first);
- `restart/{embed,cluster_size,embed_avg,replaced}`: state after step 1 with a threshold of 0.995, and which rows were
  replaced (their contents are the library's random choice);
- `trained/{latent,indices,codebook_loss,commitment,dz_latent,dz_losses,dcodebook}`: codebook by gradient, the losses
  being codebook_loss + 0.25 · commitment;
- `kmeans/{initial,means,counts}`: ten iterations on z1 from given means; `kmeans/{embed,cluster_size,embed_avg}`: the
  state that the library's training starts from after it.
"""

import torch
import torch.nn.functional as F
from vector_quantize_pytorch.vector_quantize_pytorch import kmeans

from common import generator, save
from library import state, vector_quantize, vectors

SIZE, DIM, SHAPE = 32, 8, [3, 8, 5, 7]
COMMITMENT, THRESHOLD = 0.25, 0.995
# The two nearest codes must differ this much in distance, so that rounding never decides an index.
MARGIN = 1e-4


def library(codebook, *, threshold=0, trained=False, commitment_weight=COMMITMENT):
    return vector_quantize(
        codebook,
        threshold_ema_dead_code=threshold,
        commitment_weight=commitment_weight,
        ema_update=not trained,
        learnable_codebook=trained,
    )


def assert_clear(z, codebook):
    nearest = torch.cdist(vectors(z).double(), codebook.double()).topk(2, largest=False).values
    assert (nearest[:, 1] - nearest[:, 0]).min() > MARGIN, "two codes are nearly as near: choose another seed"


def step(vq, z, g):
    assert_clear(z, state(vq)["embed"])
    z = z.clone().requires_grad_()
    latent, indices, weighted, parts = vq(z, return_loss_breakdown=True)
    torch.testing.assert_close(weighted, COMMITMENT * parts.commitment)
    return {
        "latent": latent,
        "indices": indices,
        "commitment": parts.commitment,
        "dz_latent": torch.autograd.grad((latent * g).sum(), z, retain_graph=True)[0],
        "dz_losses": torch.autograd.grad(weighted, z)[0],
        **state(vq),
    }


def restart(codebook, z):
    plain, restarting = library(codebook), library(codebook, threshold=THRESHOLD)
    torch.manual_seed(0)
    plain(z)
    restarting(z)
    replaced = state(plain)["cluster_size"] < THRESHOLD
    after = state(restarting)
    assert 0 < replaced.sum() < SIZE
    assert (after["cluster_size"][replaced] == THRESHOLD).all()
    assert (after["embed_avg"][replaced] == after["embed"][replaced] * THRESHOLD).all()
    for name, value in state(plain).items():
        assert (after[name][~replaced] == value[~replaced]).all()
    return {**after, "replaced": replaced}


def trained(codebook, z, g):
    """A transcription, for the library weighs both losses alike; at that weighting the two are compared."""
    z, codebook = z.clone().requires_grad_(), codebook.clone().requires_grad_()
    indices = torch.cdist(vectors(z), codebook).argmin(-1).view(z.shape[0], *z.shape[2:])
    codes = codebook[indices].permute(0, 3, 1, 2)
    codebook_loss, commitment = F.mse_loss(codes, z.detach()), F.mse_loss(codes.detach(), z)
    latent = z + (codes - z).detach()
    losses = codebook_loss + COMMITMENT * commitment
    dz_latent = torch.autograd.grad((latent * g).sum(), z, retain_graph=True)[0]
    dz_losses, dcodebook = torch.autograd.grad(losses, [z, codebook])

    vq, x = library(codebook.detach(), trained=True, commitment_weight=1.0), z.detach().clone().requires_grad_()
    library_latent, library_indices, loss = vq(x)
    loss.backward()
    assert (library_indices == indices).all()
    torch.testing.assert_close(library_latent, latent, rtol=0, atol=1e-6)
    torch.testing.assert_close(vq._codebook.embed.grad[0], dcodebook, rtol=1e-5, atol=1e-8)
    # Its commitment has weight 1 and ours 0.25.
    torch.testing.assert_close(x.grad, dz_losses / COMMITMENT, rtol=1e-5, atol=1e-8)
    return {
        "latent": latent,
        "indices": indices,
        "codebook_loss": codebook_loss,
        "commitment": commitment,
        "dz_latent": dz_latent,
        "dz_losses": dz_losses,
        "dcodebook": dcodebook,
    }


def kmeans_start(z, random):
    samples = vectors(z)
    initial = samples[torch.randperm(len(samples), generator=random)[:SIZE]]
    # One mean far from every sample: an empty cluster keeps its mean.
    initial[-1] = 50.0
    means = initial
    for _ in range(10):
        assert_clear(z, means)
        means = kmeans(samples[None], SIZE, 1, sample_fn=lambda *_: means[None])[0][0]
    means, counts = kmeans(samples[None], SIZE, 10, sample_fn=lambda *_: initial[None])
    assert counts[0, -1] == 0 and (means[0, -1] == 50.0).all()
    vq = library(initial)
    vq._codebook.initted.fill_(False)
    vq._codebook.sample_fn = lambda *_: initial[None]
    vq._codebook.init_embed_(samples[None])
    return {"initial": initial, "means": means[0], "counts": counts[0], **state(vq)}


def main():
    random = generator(7)
    draw = lambda shape: torch.randn(shape, generator=random)
    z1, z2, g1, g2 = draw(SHAPE), draw(SHAPE), draw(SHAPE), draw(SHAPE)
    codebook = draw([SIZE, DIM])
    # Codes that no latent is near to, for the restart.
    codebook[20:] += 4.0
    cases = {"trained": trained(codebook, z1, g1), "restart": restart(codebook, z1), "kmeans": kmeans_start(z1, random)}
    vq = library(codebook)
    cases["ema/1"] = step(vq, z1, g1)
    cases["ema/2"] = step(vq, z2, g2)
    tensors = {"z1": z1, "z2": z2, "g1": g1, "g2": g2, "codebook": codebook}
    save("vq", tensors | {f"{case}/{key}": value for case, r in cases.items() for key, value in r.items()})


main()
