"""Encoder and decoder of `kind = "vit"`: a transcription of its formulas in float64, with random weights.

It is a ViT (arXiv 2010.11929) with rotary positions in two dimensions (arXiv 2104.09864), and one with learned
positions. The formulas of larger grids are those of kexue.fm 9675, with k = max(1, side / trained side) for each axis:
`none` counts on, `interpolate` divides positions by k, `ntk` takes the base b·k^(d/(d-2)); learned positions are
interpolated by PyTorch's bicubic `interpolate`. `key-l2` is the KeyNorm of kexue.fm 9859.

Keys, where `net` is rope or learned, `size` trained or larger:
- `{net}/var/{variable}`: the weights under pixtok's names. The queries' and keys' norms are of `qk-rms` only.
- `{net}/{size}/{images,z,g_latents,g_recon}`: the inputs of encoder and decoder, and what their results are multiplied
  with before the sum whose gradients are taken.
- `{net}/{size}/{attention norm}/{extension}/{latents,recon,grad/images,grad/z}`: the results [B, N, C], [B, 3, H, W].
  At the trained size the extension changes nothing, and only `none` is stored.
- `grad/{variable}` there: of all weights but a second block's, in the cases of `ALL_GRADIENTS`.
"""

import torch
import torch.nn.functional as F

from common import generator, save

EPS = 1e-6
PATCH = 2
CHANNELS = 5
BASE = 100.0
# Patches of the images.
GRIDS = {"trained": (3, 4), "larger": (6, 5)}
# Width, depth, heads.
SIZES = {
    "rope": {"encoder": (16, 2, 2), "decoder": (12, 1, 1)},
    "learned": {"encoder": (8, 1, 2), "decoder": (12, 1, 1)},
}
ATTENTION_NORMS = ["none", "qk-rms", "key-l2"]
REGISTERS = 3
ALL_GRADIENTS = {("rope", "larger", "qk-rms", "ntk"), ("learned", "larger", "none", "interpolate")}


def hidden(net, width):
    return 4 * width if net == "learned" else -(-width * 8 // (3 * 64)) * 64


def weights(net, random):
    """By pixtok's names, in float32. `rope` has RMS norms and SwiGLU; `learned` layer norms, GELU, registers,
    LayerScale and a convolution over the pixels."""
    made = {}

    def draw(name, *shape, scale=0.3, mean=0.0):
        made[name] = mean + scale * torch.randn(shape, generator=random)

    def linear(name, into, out):
        draw(f"{name}.weight", out, into)
        draw(f"{name}.bias", out)

    def norm(name, width, layer=net == "learned"):
        draw(f"{name}.weight", width, mean=1.0)
        if layer:
            draw(f"{name}.bias", width)

    for half, (width, depth, heads) in SIZES[net].items():
        pixels = 3 * PATCH * PATCH
        if half == "encoder":
            draw("encoder.stem.weight", width, 3, PATCH, PATCH)
            draw("encoder.stem.bias", width)
            linear("encoder.head", width, CHANNELS)
        else:
            linear("decoder.stem", CHANNELS, width)
            linear("decoder.head", width, pixels)
        norm(f"{half}.norm", width)
        for i in range(depth):
            block = f"{half}.block{i}"
            norm(f"{block}.norm1", width)
            linear(f"{block}.attention.qkv", width, 3 * width)
            linear(f"{block}.attention.out", width, width)
            norm(f"{block}.norm2", width)
            linear(f"{block}.feed_forward.up", width, hidden(net, width))
            linear(f"{block}.feed_forward.down", hidden(net, width), width)
            if net == "rope":
                linear(f"{block}.feed_forward.gate", width, hidden(net, width))
                for which in ["query", "key"]:
                    norm(f"{block}.attention.{which}_norm", width // heads, layer=False)
            else:
                draw(f"{block}.scale1", width, mean=0.5)
                draw(f"{block}.scale2", width, mean=0.5)
        if net == "learned":
            h, w = GRIDS["trained"]
            draw(f"{half}.positions", h * w, width)
            draw(f"{half}.registers", REGISTERS, width)
    if net == "learned":
        draw("decoder.conv.weight", 3, 3, 3, 3)
        draw("decoder.conv.bias", 3)
    return made


class Network:
    """One half after the other, from weights by name."""

    def __init__(self, net, named, attention_norm, extension):
        self.net, self.named = net, named
        self.attention_norm, self.extension = attention_norm, extension

    def linear(self, name, x):
        return F.linear(x, self.named[f"{name}.weight"], self.named[f"{name}.bias"])

    def rms(self, name, x):
        return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * self.named[f"{name}.weight"]

    def norm(self, name, x):
        if self.net == "rope":
            return self.rms(name, x)
        return F.layer_norm(x, x.shape[-1:], self.named[f"{name}.weight"], self.named[f"{name}.bias"], EPS)

    def turn(self, x, grid):
        """[B, heads, N, d]: each pair of numbers as a complex number, times e^(i·angle)."""
        d = x.shape[-1] // 2
        angles = []
        for axis, (side, trained) in enumerate(zip(grid, GRIDS["trained"])):
            k, base = max(1.0, side / trained), BASE
            coordinates = torch.arange(side, dtype=torch.float64)
            if self.extension == "interpolate":
                coordinates = coordinates / k
            elif self.extension == "ntk":
                base = BASE * k ** (d / (d - 2))
            theta = base ** (-2 * torch.arange(d // 2, dtype=torch.float64) / d)
            along = coordinates[:, None] * theta
            along = along[:, None].expand(*grid, -1) if axis == 0 else along[None].expand(*grid, -1)
            angles.append(along)
        turns = torch.polar(torch.ones(()).double(), torch.cat(angles, -1).flatten(0, 1))
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns).flatten(-2)

    def attention(self, name, x, heads, grid):
        parts = self.linear(f"{name}.qkv", x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        scale = q.shape[-1] ** -0.5
        if self.attention_norm == "qk-rms":
            q, k = self.rms(f"{name}.query_norm", q), self.rms(f"{name}.key_norm", k)
        elif self.attention_norm == "key-l2":
            k, scale = k / k.norm(dim=-1, keepdim=True), 1.0
        if self.net == "rope":
            q, k = self.turn(q, grid), self.turn(k, grid)
        attended = (q @ k.transpose(-1, -2) * scale).softmax(-1) @ v
        return self.linear(f"{name}.out", attended.transpose(1, 2).flatten(2))

    def feed_forward(self, name, x):
        up = self.linear(f"{name}.up", x)
        if self.net == "rope":
            gate = self.linear(f"{name}.gate", x)
            return self.linear(f"{name}.down", gate * gate.sigmoid() * up)
        return self.linear(f"{name}.down", F.gelu(up))

    def trunk(self, half, x, grid):
        _, depth, heads = SIZES[self.net][half]
        one = torch.ones(()).double()
        if self.net == "learned":
            table = self.named[f"{half}.positions"].T.unflatten(1, GRIDS["trained"])[None]
            x = x + F.interpolate(table, grid, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
            x = torch.cat([self.named[f"{half}.registers"].expand(len(x), -1, -1), x], 1)
        for i in range(depth):
            block = f"{half}.block{i}"
            scale1, scale2 = (self.named.get(f"{block}.scale{n}", one) for n in [1, 2])
            x = x + scale1 * self.attention(f"{block}.attention", self.norm(f"{block}.norm1", x), heads, grid)
            x = x + scale2 * self.feed_forward(f"{block}.feed_forward", self.norm(f"{block}.norm2", x))
        return self.norm(f"{half}.norm", x[:, REGISTERS:] if self.net == "learned" else x)

    def encode(self, images):
        x = F.conv2d(images, self.named["encoder.stem.weight"], self.named["encoder.stem.bias"], stride=PATCH)
        grid = tuple(x.shape[2:])
        return self.linear("encoder.head", self.trunk("encoder", x.flatten(2).transpose(1, 2), grid))

    def decode(self, z, grid):
        patches = self.linear("decoder.head", self.trunk("decoder", self.linear("decoder.stem", z), grid))
        # [B, h, w, colour, y, x] -> [B, colour, h, y, w, x].
        pixels = patches.unflatten(2, (3, PATCH, PATCH)).unflatten(1, grid).permute(0, 3, 1, 4, 2, 5)
        images = pixels.flatten(4, 5).flatten(2, 3)
        if self.net == "rope":
            return images
        return F.conv2d(images, self.named["decoder.conv.weight"], self.named["decoder.conv.bias"], padding=1)


def inputs(random):
    """Of a net: what goes in at each size, in float32."""
    made = {}
    for size, (h, w) in GRIDS.items():
        pixels, latents = (1, 3, h * PATCH, w * PATCH), (1, h * w, CHANNELS)
        for name, shape in [("images", pixels), ("z", latents), ("g_latents", latents), ("g_recon", pixels)]:
            made[f"{size}/{name}"] = torch.randn(shape, generator=random)
    return made


def case(net, named, given, size, attention_norm, extension):
    leaf = lambda x: x.double().requires_grad_()
    unused = lambda name: attention_norm != "qk-rms" and ("query_norm" in name or "key_norm" in name)
    own = {name: leaf(x) for name, x in named.items() if not unused(name)}
    network = Network(net, own, attention_norm, extension)
    images, z = leaf(given[f"{size}/images"]), leaf(given[f"{size}/z"])
    latents, recon = network.encode(images), network.decode(z, GRIDS[size])
    total = (latents * given[f"{size}/g_latents"]).sum() + (recon * given[f"{size}/g_recon"]).sum()
    total.backward()
    tensors = {"latents": latents, "recon": recon, "grad/images": images.grad, "grad/z": z.grad}
    if (net, size, attention_norm, extension) in ALL_GRADIENTS:
        tensors |= {f"grad/{name}": x.grad for name, x in own.items() if "block1" not in name}
    assert all(x.isfinite().all() for x in tensors.values())
    return {f"{net}/{size}/{attention_norm}/{extension}/{name}": x.float() for name, x in tensors.items()}


def main():
    tensors = {}
    for net, norms, extensions in [
        ("rope", ATTENTION_NORMS, ["none", "interpolate", "ntk"]),
        ("learned", ["none"], ["interpolate"]),
    ]:
        random = generator(12)
        named, given = weights(net, random), inputs(random)
        tensors |= {f"{net}/var/{name}": x for name, x in named.items()}
        tensors |= {f"{net}/{key}": x for key, x in given.items()}
        for attention_norm in norms:
            tensors |= case(net, named, given, "trained", attention_norm, "none")
            for extension in extensions:
                tensors |= case(net, named, given, "larger", attention_norm, extension)
    # The cases would say little if extensions and norms changed little.
    latents = [tensors[f"rope/larger/{n}/{e}/latents"] for n in ATTENTION_NORMS for e in ["none", "interpolate", "ntk"]]
    for i, a in enumerate(latents):
        for b in latents[:i]:
            assert (a - b).abs().max() > 1e-2 * a.abs().max()
    save("vit", tensors)


main()
