"""vector-quantize-pytorch's VectorQuantize with every constructor argument written out: its defaults change between
versions (1.32 turns the rotation trick on)."""

from vector_quantize_pytorch import VectorQuantize

DECAY, EPS = 0.99, 1e-5


def arguments(**changed):
    """All arguments but `dim` and `codebook_size`: plain VQ by moving average, with `changed` ones."""
    plain = dict(
        heads=1,
        separate_codebook_per_head=False,
        decay=DECAY,
        eps=EPS,
        freeze_codebook=False,
        kmeans_init=False,
        kmeans_iters=10,
        sync_kmeans=False,
        use_cosine_sim=False,
        layernorm_after_project_in=False,
        threshold_ema_dead_code=0,
        channel_last=True,
        accept_image_fmap=True,
        accept_3d_fmap=False,
        commitment_weight=0.25,
        commitment_use_cross_entropy_loss=False,
        orthogonal_reg_weight=0.0,
        orthogonal_reg_active_codes_only=False,
        orthogonal_reg_max_codes=None,
        codebook_diversity_loss_weight=0.0,
        codebook_diversity_temperature=100.0,
        stochastic_sample_codes=False,
        sample_codebook_temp=1.0,
        straight_through=False,
        rotation_trick=False,
        directional_reparam=False,
        directional_reparam_variance=5e-3,
        sync_codebook=False,
        sync_affine_param=False,
        ema_update=True,
        vq_bridge=None,
        manual_ema_update=False,
        learnable_codebook=False,
        in_place_codebook_optimizer=None,
        manual_in_place_optimizer_update=False,
        affine_param=False,
        affine_param_batch_decay=0.99,
        affine_param_codebook_decay=0.9,
        sync_update_v=0.0,
        return_zeros_for_masked_padding=True,
        route_gradients_to_input=True,
    )
    assert changed.keys() <= plain.keys(), changed.keys() - plain.keys()
    return plain | changed


def start_from(vq, codebook):
    """Puts `codebook [K, D]` into a VectorQuantize, in training mode."""
    vq._codebook.embed.data.copy_(codebook[None])
    vq._codebook.embed_avg.data.copy_(codebook[None])
    return vq.train()


def vector_quantize(codebook, **changed):
    """A VectorQuantize of `codebook [K, D]`."""
    size, dim = codebook.shape
    return start_from(
        VectorQuantize(dim=dim, codebook_size=size, codebook_dim=dim, **arguments(**changed)), codebook
    )


def state(vq):
    """Copies of the codebook and its averages, without the axis of codebooks."""
    names = ["embed", "cluster_size", "embed_avg"]
    return {name: getattr(vq._codebook, name).detach()[0].clone() for name in names}


def vectors(z):
    """[B, D, h, w] -> [B·h·w, D]."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
