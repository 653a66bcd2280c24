"""What a user would write today to train the yardstick against a discriminator: the program of train.py with a PatchGAN, the hinge loss
and VQGAN's adaptive weight.

    adversarial.py --steps 40

The discriminator has 16 channels, two strided layers and group norm, from the first step on; the settings are those of the row
`step-adversarial`. Prints one line of JSON: the median step's images per second.
"""

import json
import random
import statistics
import time

import torch
import torch.nn.functional as F
import train
from autoencoder import fsq
from torch import nn
from torch.utils.data import DataLoader

WEIGHT, MOST = 0.1, 1e4


def discriminator(channels: int = 16) -> nn.Sequential:
    def normed(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
        groups = min(32, channels_out // 4)
        return [nn.Conv2d(channels_in, channels_out, 4, stride, 1), nn.GroupNorm(groups, channels_out), nn.LeakyReLU(0.2, inplace=True)]

    return nn.Sequential(
        nn.Conv2d(3, channels, 4, 2, 1),
        nn.LeakyReLU(0.2, inplace=True),
        *normed(channels, 2 * channels, 2),
        *normed(2 * channels, 4 * channels, 1),
        nn.Conv2d(4 * channels, 1, 4, 1, 1),
    )


def optimizer_of(model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    optimizer.step()


def main() -> None:
    args = train.arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    model, _ = fsq(args.channels, args.levels)
    model.plain_latent = args.layout == "plain"
    critic = discriminator()
    if args.layout == "channels-last":
        model, critic = (net.to(memory_format=torch.channels_last) for net in (model, critic))
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1].weight
    of_model = optimizer_of(model, args.lr, (0.9, 0.95), 1e-4)
    of_critic = optimizer_of(critic, 1e-3, (0.5, 0.9), 0.0)
    photos = train.Photos(train.PHOTOS / "train", args.size, train=True)
    loader = DataLoader(photos, args.batch, shuffle=True, drop_last=True, num_workers=args.workers, persistent_workers=args.workers > 0)
    model.train()
    seconds = []
    began = time.perf_counter()
    for step, images in zip(range(args.steps), train.endless(loader)):
        if args.layout == "channels-last":
            images = images.to(memory_format=torch.channels_last)
        for group in of_model.param_groups:
            group["lr"] = args.lr * train.factor(args, step)
        # The tokenizer's turn needs no gradient of the discriminator's weights.
        critic.requires_grad_(False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            recon, _, quantizer_loss = model(images)
            recon = recon.float()
            terms = F.mse_loss(recon, images)
            adversarial = -critic(recon).float().mean()
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (terms, adversarial)]
        weight = WEIGHT * (norms[0] / (norms[1] + 1e-4)).clamp(0, MOST).detach()
        take_step(model, of_model, terms + weight * adversarial + quantizer_loss)
        critic.requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            real, fake = critic(images).float(), critic(recon.detach()).float()
        take_step(critic, of_critic, 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean()))
        now = time.perf_counter()
        seconds.append(now - began)
        began = now
    print(json.dumps({"images_per_sec": args.batch / statistics.median(seconds[args.skip :] or seconds)}))


if __name__ == "__main__":
    main()
