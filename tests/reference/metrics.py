"""PSNR, SSIM and L1 of twenty pairs of 8-bit images, by scikit-image and numpy.

Keys: `{pair}/{a,b}` [3, H, W] uint8 and `{psnr,ssim,l1}` [20] float64. No pair is a perfect copy, whose PSNR is infinite.
"""

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from common import save

SIZES = [(37, 53), (53, 37), (11, 11), (11, 40), (24, 19)]
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


def main():
    random = np.random.default_rng(5)
    tensors, psnr, ssim, l1 = {}, [], [], []
    for pair in range(20):
        height, width = SIZES[pair % len(SIZES)]
        image = photograph(random, height, width)
        a = to_8bit(image)
        b = to_8bit(image + random.normal(0, NOISE[pair % len(NOISE)], image.shape))
        psnr.append(peak_signal_noise_ratio(a, b, data_range=255))
        ssim.append(
            structural_similarity(
                a, b, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
        )
        l1.append(np.abs(a.astype(float) - b).mean())
        for name, x in [("a", a), ("b", b)]:
            tensors[f"{pair}/{name}"] = torch.from_numpy(x).permute(2, 0, 1)
    for name, values in [("psnr", psnr), ("ssim", ssim), ("l1", l1)]:
        tensors[name] = torch.tensor(values, dtype=torch.float64)
    print("psnr", np.round(psnr, 2), "ssim", np.round(ssim, 3), sep="\n")
    save("metrics", tensors)


main()
