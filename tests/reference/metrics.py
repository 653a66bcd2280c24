"""Image metrics of 25 pairs of 8-bit images, by scikit-image, numpy and torchmetrics.

Keys: `{pair}/{a,b}` [3, H, W] uint8 and, by the name that pixtok gives a metric, [25] float64: not a number for pairs
that are too small for it. No pair is a perfect copy, whose PSNR is infinite.
"""

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from common import save

SIZES = [(37, 53), (53, 37), (11, 11), (11, 40), (24, 19)]
# The coarsest of five scales is a sixteenth: 176 pixels at least.
LARGE_SIZES = [(176, 179), (191, 177), (183, 200), (177, 177), (200, 181)]
NOISE = [1, 6, 25, 80]


def photograph(random, height, width):
    """Smooth waves, an edge and a flat corner: what a picture has and noise has not. [H, W, 3], 0 to 255."""
    y, x = np.mgrid[:height, :width][..., None]
    waves = np.sin(x / random.uniform(2, 12, 3) + y / random.uniform(2, 12, 3) + random.uniform(0, 6, 3))
    image = 128 + 100 * waves
    image[:, width // 2 :] *= 0.5
    image[: height // 3, : width // 3] = random.uniform(0, 255, 3)
    return image


def to_8bit(image):
    return image.round().clip(0, 255).astype(np.uint8)


def figures(a, b):
    """Every metric of two pictures [H, W, 3] uint8, by name."""
    batch = [torch.from_numpy(x).permute(2, 0, 1).unsqueeze(0).double() for x in (a, b)]
    large = min(a.shape[:2]) >= 176
    return {
        "psnr_db": peak_signal_noise_ratio(a, b, data_range=255),
        "ssim": structural_similarity(
            a, b, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        ),
        "l1": np.abs(a.astype(float) - b).mean(),
        "ms_ssim": multiscale_structural_similarity_index_measure(*batch, data_range=255.0).item() if large else np.nan,
    }


def main():
    random = np.random.default_rng(5)
    tensors, found = {}, []
    sizes = 4 * SIZES + LARGE_SIZES
    for pair, (height, width) in enumerate(sizes):
        image = photograph(random, height, width)
        a = to_8bit(image)
        b = to_8bit(image + random.normal(0, NOISE[pair % len(NOISE)], image.shape))
        found.append(figures(a, b))
        for name, x in [("a", a), ("b", b)]:
            tensors[f"{pair}/{name}"] = torch.from_numpy(x).permute(2, 0, 1)
    for name in found[0]:
        tensors[name] = torch.tensor([pair[name] for pair in found], dtype=torch.float64)
        print(name, np.round(tensors[name].numpy(), 3), sep="\n")
    save("metrics", tensors)


main()
