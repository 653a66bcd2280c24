"""PSNR, SSIM, L1 and MS-SSIM of 25 pairs of 8-bit images, by scikit-image, numpy and torchmetrics.

Keys: `{pair}/{a,b}` [3, H, W] uint8 and `{psnr,ssim,l1,ms_ssim}` [25] float64; the last is not a number but for the five
pairs that are large enough. No pair is a perfect copy, whose PSNR is infinite.
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


def main():
    random = np.random.default_rng(5)
    tensors, psnr, ssim, l1, ms_ssim = {}, [], [], [], []
    sizes = 4 * SIZES + LARGE_SIZES
    for pair, (height, width) in enumerate(sizes):
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
        batch = [torch.from_numpy(x).permute(2, 0, 1).unsqueeze(0).double() for x in (a, b)]
        large = min(height, width) >= 176
        ms_ssim.append(multiscale_structural_similarity_index_measure(*batch, data_range=255.0).item() if large else np.nan)
        for name, x in [("a", a), ("b", b)]:
            tensors[f"{pair}/{name}"] = torch.from_numpy(x).permute(2, 0, 1)
    for name, values in [("psnr", psnr), ("ssim", ssim), ("l1", l1), ("ms_ssim", ms_ssim)]:
        tensors[name] = torch.tensor(values, dtype=torch.float64)
    print("psnr", np.round(psnr, 2), "ssim", np.round(ssim, 3), "ms_ssim", np.round(ms_ssim, 3), sep="\n")
    save("metrics", tensors)


main()
