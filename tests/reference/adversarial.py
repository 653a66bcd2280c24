"""What a discriminator and the tokenizer minimise: transcriptions of taming-transformers (hinge, logistic loss, adaptive weight, PatchGAN
with batch norm and ActNorm), of the least-squares paper (arXiv 1611.04076, eq. 9), of LeCam (arXiv 2104.03310, as in Open-MAGVIT2), of
StyleGAN2's discriminator (arXiv 1912.04958, without its equalised learning rate) and of R1 (arXiv 1801.04406), in float64 on float32 numbers.

Where ours differs on purpose: LeCam compares with the averages of the steps before, given here, which Open-MAGVIT2 updates first; R1 takes
the mean of an image's logits for D, where StyleGAN2 has a single one.

Keys:
- `logits/{real,fake}` [4, 1, 5, 7].
- `{hinge,non-saturating,least-squares}/{tokenizer,discriminator}` [], the value; `.../gradient_{real,fake}`, its gradients.
- `lecam/average_{real,fake}`, `lecam/value`, `lecam/value/gradient_{real,fake}`.
- `patch/{batch,actnorm}/weights/{name}`: the parameters under our names; `patch/{norm}/logits`; `patch/images` [2, 3, 24, 40];
  `patch/{norm}/r1`, and `patch/{norm}/r1_gradient/{name}` of the parameters.
- `stylegan/images` [8, 3, 24, 40], and the same of it as of a patch discriminator.
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


class Stylegan(torch.nn.Module):
    """DiscriminatorBlock and DiscriminatorEpilogue with residual connections, under our names."""

    def __init__(self, random, widths=(8, 16, 16), last=(6, 10)):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, widths[0], 1)
        self.blocks = len(widths) - 1
        for i, (narrow, wide) in enumerate(zip(widths, widths[1:])):
            block = torch.nn.Module()
            block.conv = torch.nn.Conv2d(narrow, narrow, 3, padding=1)
            block.down = torch.nn.Conv2d(narrow, wide, 3, stride=2)
            block.shortcut = torch.nn.Conv2d(narrow, wide, 1, stride=2)
            self.add_module(f"block{i}", block)
        self.last = torch.nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.hidden = torch.nn.Linear(widths[-1] * last[0] * last[1], widths[-1])
        self.out = torch.nn.Linear(widths[-1], 1)
        for parameter in self.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
        self.double()

    def blurred(self, x, padding):
        tap = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
        kernel = tap[:, None] * tap[None, :]
        kernel = (kernel / kernel.sum())[None, None].repeat(x.shape[1], 1, 1, 1)
        return F.conv2d(F.pad(x, [padding] * 4), kernel, groups=x.shape[1])

    def with_deviation(self, x, group=4):
        n, c, h, w = x.shape
        # The images i, i + n/group, ... are taken together.
        y = x.reshape(group, -1, 1, c, h, w)
        y = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean([2, 3, 4]).reshape(-1, 1, 1, 1)
        return torch.cat([x, y.repeat(group, 1, h, w)], 1)

    def forward(self, x):
        act = lambda y: F.leaky_relu(y, 0.2)
        x = act(self.stem(x))
        for i in range(self.blocks):
            block = self.get_submodule(f"block{i}")
            shortcut = block.shortcut(self.blurred(x, 1))
            x = act(block.down(self.blurred(act(block.conv(x)), 2)))
            x = (x + shortcut) * 0.5**0.5
        x = act(self.last(self.with_deviation(x)))
        return self.out(act(self.hidden(x.flatten(1))))


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
        tensors |= discriminator_numbers(f"patch/{norm}", net, x)
    return tensors


def stylegan_numbers(random):
    images = torch.rand(8, 3, 24, 40, generator=random) * 2 - 1
    numbers = discriminator_numbers("stylegan", Stylegan(random), images.double().requires_grad_())
    return numbers | {"stylegan/images": images}


def discriminator_numbers(key, net, x):
    logits = net(x)
    (gradient,) = torch.autograd.grad(logits.flatten(1).mean(1).sum(), x, create_graph=True)
    penalty = 0.5 * gradient.pow(2).sum([1, 2, 3]).mean()
    penalty.backward()
    print(key, penalty.item())
    tensors = {f"{key}/logits": logits, f"{key}/r1": penalty}
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    largest = max(gradient.abs().max() for gradient in gradients.values())
    tensors |= {f"{key}/weights/{name}": parameter for name, parameter in net.named_parameters()}
    # Most shifts leave the slope alone: theirs is rounding.
    gradients = {name: gradient for name, gradient in gradients.items() if gradient.abs().max() > 1e-4 * largest}
    return tensors | {f"{key}/r1_gradient/{name}": gradient for name, gradient in gradients.items()}


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
    tensors = loss_numbers(random) | patch_numbers(random) | adaptive_numbers(random) | stylegan_numbers(random)
    save("adversarial", {name: tensor.detach().float() for name, tensor in tensors.items()})


main()
