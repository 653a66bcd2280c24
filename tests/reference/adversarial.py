"""What a discriminator and the tokenizer minimise: transcriptions of taming-transformers (hinge, logistic loss, adaptive weight, PatchGAN
with batch norm and ActNorm), of the least-squares paper (arXiv 1611.04076, eq. 9), of LeCam (arXiv 2104.03310, as in Open-MAGVIT2)
and of R1 (arXiv 1801.04406), in float64 on float32 numbers.

Where ours differs on purpose: LeCam compares with the averages of the steps before, given here, which Open-MAGVIT2 updates first; R1 takes
the mean of an image's logits for D, where StyleGAN2 has a single one.

Keys:
- `logits/{real,fake}` [4, 1, 5, 7].
- `{hinge,non-saturating,least-squares}/{tokenizer,discriminator}` [], the value; `.../gradient_{real,fake}`, its gradients.
- `lecam/average_{real,fake}`, `lecam/value`, `lecam/value/gradient_{real,fake}`.
- `patch/{batch,actnorm}/weights/{name}`: the parameters under our names; `patch/{norm}/logits`; `patch/images` [2, 3, 24, 40];
  `patch/{norm}/r1`, and `patch/{norm}/r1_gradient/{name}` of the parameters.
- `adaptive/{images,features,weight}`: recon = conv2d(features, weight, padding 1); `adaptive/of_terms`, `adaptive/of_adversary`, the gradients of
  the mean absolute error and of −mean(recon²) at the weight; `adaptive/value` [], and `adaptive/clamped` with a limit of 0.01.
"""

import torch
import torch.nn.functional as F

from common import generator, save

LAYERS, CHANNELS = 2, 8


def hinge(real, fake):
    return -fake.mean(), 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def non_saturating(real, fake):
    ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
    logistic = F.binary_cross_entropy_with_logits
    return logistic(fake, ones), 0.5 * (logistic(real, ones) + logistic(fake, zeros))


def least_squares(real, fake):
    return 0.5 * ((fake - 1) ** 2).mean(), 0.5 * (((real - 1) ** 2).mean() + (fake**2).mean())


def lecam(real, fake, average_real, average_fake):
    of_real = torch.mean(F.relu(real - average_fake).pow(2))
    return of_real + torch.mean(F.relu(average_real - fake).pow(2))


class Norm(torch.nn.Module):
    """taming's BatchNorm2d in training, or its ActNorm after its first batch."""

    def __init__(self, kind, channels, random):
        super().__init__()
        self.kind = kind
        draw = lambda: torch.randn(channels, generator=random).double()
        if kind == "batch":
            self.weight, self.bias = (torch.nn.Parameter(value) for value in (1 + 0.2 * draw(), 0.2 * draw()))
        else:
            self.location = torch.nn.Parameter(torch.zeros(channels, 1, 1).double())
            self.scale = torch.nn.Parameter(torch.ones(channels, 1, 1).double())
            self.started = False

    def forward(self, x):
        if self.kind == "batch":
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=1e-5)
        if not self.started:
            flat = x.permute(1, 0, 2, 3).reshape(x.shape[1], -1)
            self.location.data.copy_(-flat.mean(1)[:, None, None])
            self.scale.data.copy_((1 / (flat.std(1) + 1e-6))[:, None, None])
            self.started = True
        return self.scale * (x + self.location)


class Patch(torch.nn.Module):
    """NLayerDiscriminator under our names."""

    def __init__(self, norm, random):
        super().__init__()
        widths = [CHANNELS * min(2**layer, 8) for layer in range(LAYERS + 1)]
        previous = 3
        for layer, width in enumerate(widths):
            stride = 2 if layer < LAYERS else 1
            part = torch.nn.Module()
            part.conv = torch.nn.Conv2d(previous, width, 4, stride, 1, bias=layer == 0 or norm != "batch")
            if layer > 0:
                part.norm = Norm(norm, width, random)
            self.add_module(f"layer{layer}", part)
            previous = width
        self.last = torch.nn.Conv2d(previous, 1, 4, 1, 1)
        for name, parameter in self.named_parameters():
            if "norm" not in name:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=random)
        self.double()

    def forward(self, x):
        for layer in range(LAYERS + 1):
            part = self.get_submodule(f"layer{layer}")
            x = part.conv(x)
            x = F.leaky_relu(part.norm(x) if layer > 0 else x, 0.2)
        return self.last(x)


def loss_numbers(random):
    real, fake = (torch.randn(4, 1, 5, 7, generator=random) * 1.5 + shift for shift in (0.3, -0.3))
    tensors = {"logits/real": real, "logits/fake": fake}
    leaves = [x.double().requires_grad_() for x in (real, fake)]

    def keep(name, value):
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        tensors[name] = value
        for side, gradient in zip(("real", "fake"), gradients):
            if gradient is not None:
                tensors[f"{name}/gradient_{side}"] = gradient

    for name, both in [("hinge", hinge), ("non-saturating", non_saturating), ("least-squares", least_squares)]:
        of_tokenizer, of_discriminator = both(*leaves)
        keep(f"{name}/tokenizer", of_tokenizer)
        keep(f"{name}/discriminator", of_discriminator)
    averages = {"average_real": torch.tensor(0.4), "average_fake": torch.tensor(-0.7)}
    keep("lecam/value", lecam(*leaves, *(average.double() for average in averages.values())))
    return tensors | {f"lecam/{name}": average for name, average in averages.items()}


def patch_numbers(random):
    images = torch.rand(2, 3, 24, 40, generator=random) * 2 - 1
    tensors = {"patch/images": images}
    for norm in ("batch", "actnorm"):
        net = Patch(norm, random)
        x = images.double().requires_grad_()
        if norm == "actnorm":
            net(x)
        logits = net(x)
        (gradient,) = torch.autograd.grad(logits.mean([1, 2, 3]).sum(), x, create_graph=True)
        penalty = 0.5 * gradient.pow(2).sum([1, 2, 3]).mean()
        penalty.backward()
        tensors |= {f"patch/{norm}/logits": logits, f"patch/{norm}/r1": penalty}
        for name, parameter in net.named_parameters():
            tensors[f"patch/{norm}/weights/{name}"] = parameter
            # Shifts at the end leave the slope alone.
            if parameter.grad is not None:
                tensors[f"patch/{norm}/r1_gradient/{name}"] = parameter.grad
        print(norm, penalty.item())
    return tensors


def adaptive_numbers(random):
    features, weight, images = (torch.randn(shape, generator=random) for shape in ((2, 4, 6, 7), (3, 4, 3, 3), (2, 3, 6, 7)))
    leaf = weight.double().requires_grad_()
    recon = F.conv2d(features.double(), leaf, padding=1)
    nll, adversarial = (recon - images.double()).abs().mean(), -recon.pow(2).mean()
    of_terms, of_adversary = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (nll, adversarial))
    value = torch.norm(of_terms) / (torch.norm(of_adversary) + 1e-4)
    named = {"images": images, "features": features, "weight": weight, "of_terms": of_terms, "of_adversary": of_adversary}
    named |= {"value": torch.clamp(value, 0.0, 1e4), "clamped": torch.clamp(value, 0.0, 0.01)}
    print("adaptive", value.item())
    return {f"adaptive/{name}": tensor for name, tensor in named.items()}


def main():
    random = generator(21)
    tensors = loss_numbers(random) | patch_numbers(random) | adaptive_numbers(random)
    save("adversarial", {name: tensor.detach().float() for name, tensor in tensors.items()})


main()
