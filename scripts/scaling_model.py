#!/usr/bin/env python3
"""How long a training step of the large presets takes on 8 to 512 GPUs: a model, not a measurement.

    scripts/scaling_model.py            prints the tables of docs/scaling.md
    scripts/scaling_model.py --write    writes them into the page, between its marks (`just scaling-model`)
    scripts/scaling_model.py --check    fails if the page has other tables, or if pixtok counts other parameters

Everything that is assumed is a constant at the top; docs/scaling.md says what each one is. Sizes come from the configs, the speed of
the loader from bench/results.json, and what one GPU was measured to do from docs/performance.md.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/scaling.md"
PIXTOK = ROOT / "target/release/pixtok"
PRESETS = [
    "imagenet256-f16-fsq",
    "imagenet256-f16-fsq-64k",
    "imagenet256-f16-vq-llamagen",
    "imagenet256-f16-vq-taming",
    "imagenet256-f16-lfq-openmagvit2",
    "imagenet128-f8-fsq-64k",
    "imagenet128-f8-simvq-64k",
]
# Those whose steps have tables of their own; the others differ from one of them by little.
SHOWN = ["imagenet256-f16-vq-llamagen", "imagenet256-f16-lfq-openmagvit2", "imagenet128-f8-simvq-64k"]
GPUS = [8, 16, 32, 64, 128, 256, 512]
FEW_GPUS = [16, 64, 512]

# The GPU (H100 or H200 SXM), and how much of its dense rates a step reaches: as pixtok was measured, and as a faster program might.
BF16_RATE, FP32_RATE = 989e12, 67e12
UTILISATION, FASTER = 0.15, 0.35
# The time of the calls for one convolution with its norm, forward and backward, however small the batch is. The yardstick's 24
# convolutions took 12.1 ms on an H200, where calls are what costs (docs/performance.md).
CALL_SECS = 12.1e-3 / 24

# Links. Bytes a second in one direction; all-reduces reach this share of them.
PER_NODE = 8
NVLINK = 450e9
REACHED = 0.8
# Seconds: to start a collective, and for one step of the ring and of the tree inside a node.
START, RING_STEP, TREE_STEP = 10e-6, 3.4e-6, 1.2e-6
# The share of the ring's rate that the tree reaches.
TREE_RATE = 0.9

# A bucket is full at this size. Gradients are float32.
BUCKET_BYTES = 25e6
GRADIENT_BYTES = 4
# Under ZeRO 1 all GPUs together send so many parameters at once.
SPREAD_NUMBERS = 16 * 2**20

# The host: copies from the GPU to pinned memory, writing to storage, and an ImageNet JPEG.
SNAPSHOT_RATE, STORAGE_RATE, JPEG_BYTES = 25e9, 1e9, 110e3
SAVE_EVERY = 500
# The share of the time that must be lost before something other than computing is named as the limit.
NAMED_FROM = 0.05
COMPUTING = "computing"


@dataclass(frozen=True)
class Link:
    """What joins the nodes."""

    name: str
    # Of a node, in bytes a second and one direction.
    rate: float
    # Seconds of one step between nodes, of the ring and of the tree.
    ring_step: float
    tree_step: float


INFINIBAND = Link("400 Gb/s a GPU", PER_NODE * 50e9, 9.6e-6, 8.5e-6)
ETHERNET = Link("100 Gb/s a node", 12.5e9, 30e-6, 30e-6)
LINKS = [INFINIBAND, ETHERNET]


@dataclass(frozen=True)
class Layer:
    """A convolution, or a table that the quantizer learns."""

    parameters: int
    # Of the forward pass of one image.
    operations: float = 0.0


def conv(channels_in: int, channels_out: int, kernel: int, side: int, bias: bool = True, norm: bool = False) -> Layer:
    """With the norm before it (of its input) if there is one. `side` is that of the output."""
    weights = channels_in * channels_out * kernel**2
    return Layer(weights + bias * channels_out + norm * 2 * channels_in, 2.0 * weights * side**2)


def res_block(channels_in: int, channels_out: int, side: int) -> list[Layer]:
    shortcut = [conv(channels_in, channels_out, 1, side)] if channels_in != channels_out else []
    return [conv(channels_in, channels_out, 3, side, norm=True), conv(channels_out, channels_out, 3, side, norm=True), *shortcut]


def attention(channels: int, side: int) -> list[Layer]:
    products = Layer(0, 4.0 * side**4 * channels)
    return [conv(channels, 3 * channels, 1, side, norm=True), products, conv(channels, channels, 1, side)]


def middle(model: dict, channels: int, side: int) -> list[Layer]:
    if not model.get("mid_attention"):
        return []
    return [*res_block(channels, channels, side), *attention(channels, side), *res_block(channels, channels, side)]


def encoder(model: dict, size: int, code_dim: int) -> list[Layer]:
    """In the order of the forward pass, as src/model/cnn/encoder.rs has it."""
    width, side = model["channels"], size
    layers = [conv(3, width, 3, side)]
    widths = [width * multiplier for multiplier in model["multipliers"]]
    for stage, wider in enumerate(widths):
        for _ in range(model["res_blocks"]):
            layers += res_block(width, wider, side)
            width = wider
            layers += attention(width, side) if side in model.get("attention", []) else []
        if stage < len(widths) - 1:
            side //= 2
            layers.append(conv(width, width, 3, side))
    layers += middle(model, width, side)
    latent = model.get("latent_channels", code_dim)
    if model.get("variant") == "vqgan":
        return [*layers, conv(width, latent, 3, side, norm=True), conv(latent, code_dim, 1, side)]
    return [*layers, conv(width, latent, 1, side, norm=True)]


def decoder(model: dict, size: int, code_dim: int) -> list[Layer]:
    """In the order of the forward pass, as src/model/cnn/decoder.rs has it."""
    widths = [model["channels"] * multiplier for multiplier in model["multipliers"]]
    width, side = widths[-1], size >> (len(widths) - 1)
    latent = model.get("latent_channels", code_dim)
    layers = [conv(code_dim, latent, 1, side)] if model.get("variant") == "vqgan" else []
    layers += [conv(latent, width, 3, side), *middle(model, width, side)]
    for stage in reversed(range(len(widths))):
        for _ in range(model.get("decoder_res_blocks", model["res_blocks"])):
            layers += res_block(width, widths[stage], side)
            width = widths[stage]
            layers += attention(width, side) if side in model.get("attention", []) else []
        if stage > 0:
            side *= 2
            layers.append(conv(width, width, 3, side))
    return [*layers, conv(width, 3, 3, side, norm=True)]


def code_dim(quantizer: dict) -> int:
    match quantizer["kind"]:
        case "fsq":
            return len(quantizer["levels"])
        case "lfq":
            return quantizer["bits"]
        case _:
            return quantizer["codebook_dim"]


def quantizer_layers(quantizer: dict, model: dict, side: int) -> list[Layer]:
    """What it learns by gradient."""
    dim = code_dim(quantizer)
    latent = model.get("latent_channels", dim)
    layers = []
    if model.get("variant") != "vqgan" and latent != dim:
        layers += [conv(latent, dim, 1, side), conv(dim, latent, 1, side)]
    if quantizer["kind"] == "vq" and quantizer["codebook_update"]["kind"] == "gradient":
        layers.append(Layer(quantizer["codebook_size"] * dim))
    if quantizer["kind"] == "simvq":
        layers.append(Layer(dim * dim + dim))
    return layers


def patch_discriminator(discriminator: dict, size: int) -> list[Layer]:
    """As src/adversarial/patch.rs has it. A batch norm follows its convolution, which then has no bias."""
    layers, width, side = [], 3, size
    for layer in range(discriminator["layers"] + 1):
        wider = discriminator["channels"] * min(2**layer, 8)
        side = side // 2 if layer < discriminator["layers"] else side - 1
        of_conv = conv(width, wider, 4, side, bias=layer == 0)
        layers.append(replace(of_conv, parameters=of_conv.parameters + (2 * wider if layer else 0)))
        width = wider
    return [*layers, conv(width, 1, 4, side - 1)]


def vgg16(size: int) -> list[Layer]:
    layers, width = [], 3
    for stage, (wider, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for _ in range(count):
            layers.append(conv(width, wider, 3, size >> stage))
            width = wider
    return layers


@dataclass(frozen=True)
class Preset:
    name: str
    encoder: list[Layer]
    quantizer: list[Layer]
    decoder: list[Layer]
    discriminator: list[Layer]
    # The network of the perceptual loss; its weights are fixed.
    perceptual: list[Layer]
    # Of the search for the nearest code, in float32, for one image.
    search_operations: float
    # How many numbers each collective reduces for which the step waits.
    waits: list[int]
    # In a checkpoint beside the parameters: buffers.
    buffers: int
    average: bool
    # Of the config: the images of a step and of a micro-batch, and the steps.
    batch: int
    micro_batch: int
    steps: int

    @property
    def tokenizer(self) -> list[Layer]:
        return [*self.encoder, *self.quantizer, *self.decoder]

    @property
    def passes(self) -> list[tuple[list[Layer], int]]:
        """The parts, and how many passes of forward's cost they make. A backward pass costs two, to weights and to inputs. The
        perceptual network looks at both images and goes backward to one's pixels. The discriminator looks at both, goes backward to
        one's pixels, and to the weights from both."""
        return [(self.tokenizer, 3), (self.perceptual, 3), (self.discriminator, 7)]

    @property
    def image_operations(self) -> float:
        return sum(passes * operations(layers) for layers, passes in self.passes)

    def image_secs(self, utilisation: float = UTILISATION) -> float:
        return (self.image_operations / BF16_RATE + self.search_operations / FP32_RATE) / utilisation

    @property
    def calls_secs(self) -> float:
        """What a step takes at least."""
        return CALL_SECS * sum(passes / 3 * sum(layer.operations > 0 for layer in layers) for layers, passes in self.passes)


def parameters(layers: list[Layer]) -> int:
    return sum(layer.parameters for layer in layers)


def operations(layers: list[Layer]) -> float:
    return sum(layer.operations for layer in layers)


def read(name: str) -> Preset:
    config = tomllib.loads((ROOT / f"configs/{name}.toml").read_text())
    model, quantizer, train, size = config["model"], config["quantizer"], config["train"], config["data"]["image_size"]
    dim, side = code_dim(quantizer), size >> (len(model["multipliers"]) - 1)
    adversarial = config.get("adversarial")
    codes = quantizer.get("codebook_size", 0)
    decoding = decoder(model, size, dim)
    # Losses, the finite flag, signals.
    waits = [64]
    if quantizer["kind"] == "lfq":
        # The mean probabilities of the entropy loss.
        waits.append(quantizer["bits"] // quantizer["entropy_group_bits"] * 2 ** quantizer["entropy_group_bits"])
    if adversarial:
        # Batch norm over all ranks: sums forward for both images, and backward to the pixels and, for both, to the weights.
        judge = adversarial["discriminator"]
        discriminator = patch_discriminator(judge, size)
        normed = [judge["channels"] * min(2**layer, 8) for layer in range(1, judge["layers"] + 1)]
        waits += [2 * channels + 1 for channels in normed for _ in range(5)]
        if adversarial["weighting"]["kind"] == "adaptive":
            # Two gradients at the decoder's last layer.
            waits.append(2 * (model["channels"] * 3 * 9))
        waits += [2] if "lecam" in adversarial else []
    return Preset(
        name,
        encoder(model, size, dim),
        quantizer_layers(quantizer, model, side),
        decoding,
        discriminator if adversarial else [],
        vgg16(size) if config["loss"].get("lpips", 0) > 0 else [],
        2.0 * side**2 * codes * dim,
        waits,
        codes * dim if quantizer["kind"] == "simvq" else codes,
        "ema_decay" in train,
        train["batch_size"],
        train["batch_size"] // train.get("micro_batches", 1),
        train["steps"],
    )


def reached_rate(gpus: int, link: Link) -> float:
    """The bus bandwidth of NCCL's tests: rings leave a node through all its links at once."""
    return REACHED * (NVLINK if gpus <= PER_NODE else min(NVLINK, link.rate))


def all_reduce_secs(size: float, gpus: int, link: Link) -> float:
    """The faster of ring and tree."""
    if gpus == 1:
        return 0.0
    nodes, rate = math.ceil(gpus / PER_NODE), reached_rate(gpus, link)
    between = 2 * (nodes - 1)
    ring = (2 * (gpus - 1) - between) * RING_STEP + between * link.ring_step + 2 * (gpus - 1) / gpus * size / rate
    tree = 2 * ((min(gpus, PER_NODE) - 1) * TREE_STEP + math.log2(nodes) * link.tree_step) + 2 * size / (TREE_RATE * rate)
    return START + min(ring, tree)


def all_gather_secs(size: float, gpus: int, link: Link) -> float:
    """Of `size` bytes in all, by the ring."""
    nodes = math.ceil(gpus / PER_NODE)
    steps = (gpus - nodes) * RING_STEP + (nodes - 1) * link.ring_step
    return START + steps + (gpus - 1) / gpus * size / reached_rate(gpus, link)


def spread_secs(numbers: int, gpus: int, link: Link) -> float:
    """Of the parameters under ZeRO 1, in pieces."""
    pieces = math.ceil(numbers / SPREAD_NUMBERS)
    return pieces * all_gather_secs(4 * numbers / pieces, gpus, link)


@dataclass(frozen=True)
class Step:
    """Seconds of a step and what they went to."""

    # What the operations of the images take.
    images: float
    # More than that, because calls take their time.
    calls: float
    # Waits for gradients after the last of them is computed.
    gradients: float
    # Small collectives, and the all-gather of ZeRO 1.
    small: float
    gather: float

    @property
    def computing(self) -> float:
        return self.images + self.calls

    @property
    def exposed(self) -> float:
        return self.gradients + self.small + self.gather

    @property
    def whole(self) -> float:
        return self.computing + self.exposed

    @property
    def efficiency(self) -> float:
        return self.images / self.whole

    @property
    def limit(self) -> str:
        lost = {"few images": self.calls, "links": self.gradients + self.gather, "latency": self.small}
        worst = max(lost, key=lost.__getitem__)
        return worst if lost[worst] > NAMED_FROM * self.whole else COMPUTING


def buckets(
    layers: list[Layer], began: float, secs_of: Callable[[Layer], float], gradient_bytes: int
) -> tuple[list[tuple[float, float]], float]:
    """When each bucket of gradients is full and its size, in a backward pass through `layers` that begins at `began`; and when the
    pass ends."""
    full, size, now = [], 0.0, began
    for layer in reversed(layers):
        now += secs_of(layer)
        size += layer.parameters * gradient_bytes
        if size >= BUCKET_BYTES:
            full.append((now, size))
            size = 0.0
    return (full + [(now, size)] if size else full), now


def step(
    preset: Preset,
    images: int,
    gpus: int,
    link: Link,
    utilisation: float = UTILISATION,
    gradient_bytes: int = GRADIENT_BYTES,
    sharded: bool = False,
) -> Step:
    """A step of `images` images on each GPU, which takes them at once."""
    of_images = images * preset.image_secs(utilisation)
    computing = max(of_images, preset.calls_secs)

    def backward(layer: Layer) -> float:
        # Where calls decide, everything takes longer by the same factor.
        return 2 * layer.operations * images / utilisation / BF16_RATE * computing / of_images

    # The backward passes end the step: through the tokenizer, then through the discriminator for both of its inputs.
    both = [replace(layer, operations=2 * layer.operations) for layer in preset.discriminator]
    began = computing - sum(map(backward, [*preset.tokenizer, *both]))
    full, now = buckets(preset.tokenizer, began, backward, gradient_bytes)
    more, _ = buckets(both, now, backward, gradient_bytes)
    free = 0.0
    for at, size in full + more:
        free = max(free, at) + all_reduce_secs(size, gpus, link)
    small = sum(all_reduce_secs(4 * numbers, gpus, link) for numbers in preset.waits)
    trained = parameters(preset.tokenizer) + parameters(preset.discriminator)
    gather = spread_secs(trained, gpus, link) if sharded else 0.0
    return Step(of_images, computing - of_images, free - computing, small, gather)


def table(head: list[str], rows: list[list[str]]) -> str:
    head_and_rows = [f"| {' | '.join(cells)} |" for cells in [head, *rows]]
    head_and_rows.insert(1, f"|{'---|' * len(head)}")
    return "\n".join(head_and_rows)


def heads(counts: list[int]) -> list[str]:
    """Of columns for each link and number of GPUs."""
    return [f"{gpus}, {link.name}" for link in LINKS for gpus in counts]


def ms(secs: float) -> str:
    return f"{1e3 * secs:.2g}" if secs < 99.5e-3 else f"{1e3 * secs:.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def mb(size: float) -> str:
    return f"{size / 1e6:.3g}" if size < 1e8 else f"{size / 1e6:.0f}"


def measured(name: str) -> float | None:
    """Images a second on one H200, of the table in docs/performance.md."""
    found = re.search(rf"^\| {name} \| (\d+) \|", (ROOT / "docs/performance.md").read_text(), re.MULTILINE)
    return float(found[1]) if found else None


def loader_rate() -> float:
    """Images a second of one core that decodes and resizes JPEGs."""
    results = json.loads((ROOT / "bench/results.json").read_text())
    row = next(row for row in results["rows"] if row["name"] == "loader")
    return statistics.median(row["ours"]) / results["threads"]


def compute_table(presets: list[Preset]) -> str:
    rows = []
    for preset in presets:
        found = measured(preset.name)
        on_one = [f"{found:.0f}", percent(found * preset.image_operations / BF16_RATE)] if found else ["–", "–"]
        rates = [f"{1 / preset.image_secs(share):.0f}" for share in (UTILISATION, FASTER)]
        rows.append([preset.name, f"{preset.image_operations / 1e9:.0f}", *rates, ms(preset.calls_secs), *on_one])
    at = [f"images/s at {percent(share)}" for share in (UTILISATION, FASTER)]
    head = ["preset", "GFLOP an image", *at, "ms of calls", "images/s measured", "of the peak"]
    return table(head, rows)


def bytes_table(presets: list[Preset]) -> str:
    rows = []
    for preset in presets:
        tokenizer, discriminator = parameters(preset.tokenizer), parameters(preset.discriminator)
        gradients = GRADIENT_BYTES * (tokenizer + discriminator)
        rows.append(
            [
                preset.name,
                f"{tokenizer / 1e6:.1f}",
                f"{discriminator / 1e6:.1f}" if discriminator else "–",
                mb(gradients),
                str(len(preset.waits)),
                f"{4 * sum(preset.waits) / 1e3:.1f}",
            ]
        )
    return table(["preset", "million parameters", "discriminator's", "MB of gradients", "small collectives", "kB in them"], rows)


def steps_table(preset: Preset, strong: bool) -> str:
    rows = []
    for gpus in GPUS:
        if strong and preset.batch % gpus:
            continue
        images = preset.batch // gpus if strong else preset.micro_batch
        by_link = [step(preset, images, gpus, link) for link in LINKS]
        cells = [str(gpus), str(images if strong else images * gpus), ms(by_link[0].computing)]
        for found in by_link:
            cells += [ms(found.exposed), percent(found.efficiency), found.limit]
        if strong:
            cells.append(f"{preset.steps * by_link[0].whole / 3600:.0f}")
        rows.append(cells)
    head = ["GPUs", "images a GPU" if strong else "images a step", "computing, ms"]
    for link in LINKS:
        head += [f"exposed, ms, {link.name}", "efficiency", "limit"]
    return table([*head, "hours of the whole run"] if strong else head, rows)


def summary_table(presets: list[Preset], utilisation: float) -> str:
    def cell(preset: Preset, gpus: int, link: Link) -> str:
        found = step(preset, preset.micro_batch, gpus, link, utilisation)
        return percent(found.efficiency) + ("" if found.limit == COMPUTING else f", {found.limit}")

    over = [(link, gpus) for link in LINKS for gpus in FEW_GPUS]
    rows = [[preset.name, str(preset.micro_batch), *(cell(preset, gpus, link) for link, gpus in over)] for preset in presets]
    return table(["preset", "images a GPU", *heads(FEW_GPUS)], rows)


def variants_table(preset: Preset) -> str:
    images = preset.micro_batch
    variants: list[tuple[str, dict]] = [
        ("as above", {}),
        ("gradients sent in bf16", {"gradient_bytes": 2}),
        ("moments divided (ZeRO 1)", {"sharded": True}),
        (f"computing at {percent(FASTER)} of the peak", {"utilisation": FASTER}),
        ("the same, gradients in bf16", {"utilisation": FASTER, "gradient_bytes": 2}),
        (f"{images // 4} images a GPU", {"images": images // 4}),
    ]
    rows = []
    for name, changes in variants:
        cells = [name]
        for link in LINKS:
            for gpus in FEW_GPUS:
                found = step(preset, gpus=gpus, link=link, **{"images": images, **changes})
                cells.append(f"{ms(found.exposed)} ({percent(found.efficiency)})")
        rows.append(cells)
    return table([preset.name, *heads(FEW_GPUS)], rows)


def statistics_table() -> str:
    rows = []
    for codes, dim in [(1024, 256), (16384, 8), (16384, 256), (262144, 8), (262144, 256)]:
        sums, pool = 4 * codes * (dim + 1), 4 * min(codes, 8192) * dim
        cells = [f"{codes:,}", str(dim), mb(sums), mb(pool)]
        for link in LINKS:
            keys = [all_gather_secs(8 * min(codes, 8192) * gpus, gpus, link) for gpus in FEW_GPUS]
            cells += [ms(all_reduce_secs(sums + pool, gpus, link) + secs) for gpus, secs in zip(FEW_GPUS, keys, strict=True)]
        rows.append(cells)
    head = ["codes", "D", "MB of counts and sums", "MB of the pool"]
    return table([*head, *(f"ms, {each}" for each in heads(FEW_GPUS))], rows)


def host_table(presets: list[Preset]) -> str:
    cores = loader_rate()
    rows = []
    for preset in presets:
        images = PER_NODE / preset.image_secs()
        trained = parameters(preset.tokenizer) + parameters(preset.discriminator)
        saved = 4 * (3 * trained + preset.buffers) + (4 * parameters(preset.tokenizer) if preset.average else 0)
        whole = SAVE_EVERY * step(preset, preset.micro_batch, PER_NODE, INFINIBAND).whole
        rows.append(
            [
                preset.name,
                f"{images:.0f}",
                f"{images / cores:.1f}",
                f"{images * JPEG_BYTES / 1e6:.0f}",
                f"{GPUS[-1] / PER_NODE * images * JPEG_BYTES / 1e9:.1f}",
                mb(saved),
                f"{ms(saved / SNAPSHOT_RATE)} ({100 * saved / SNAPSHOT_RATE / whole:.2f} %)",
                f"{ms(saved / STORAGE_RATE)} ({100 * saved / STORAGE_RATE / whole:.1f} %)",
            ]
        )
    head = ["preset", "images/s a node", "cores a node", "MB/s a node", f"GB/s for {GPUS[-1]} GPUs", "MB of a checkpoint"]
    return table([*head, "ms to host memory", "ms to storage"], rows)


def sharded_table(preset: Preset) -> str:
    trained = parameters(preset.tokenizer) + parameters(preset.discriminator)
    divided = 8 * trained + (4 * parameters(preset.tokenizer) if preset.average else 0)
    rows = []
    for gpus in GPUS:
        gathers = [ms(spread_secs(trained, gpus, link)) for link in LINKS]
        rows.append([str(gpus), mb(divided), mb(divided / gpus), *gathers])
    return table(["GPUs", "MB a GPU, whole", "MB a GPU, divided", *(f"ms to gather, {link.name}" for link in LINKS)], rows)


def tables() -> dict[str, str]:
    """By the name at the mark in the page."""
    presets = [read(name) for name in PRESETS]
    by_name = {preset.name: preset for preset in presets}
    made = {"computing": compute_table(presets), "bytes": bytes_table(presets)}
    for utilisation in (UTILISATION, FASTER):
        made[f"all at {percent(utilisation)}"] = summary_table(presets, utilisation)
    for name in SHOWN:
        made[f"{name} weak"] = steps_table(by_name[name], strong=False)
        made[f"{name} strong"] = steps_table(by_name[name], strong=True)
    large = by_name["imagenet256-f16-lfq-openmagvit2"]
    return made | {
        "variants": variants_table(by_name["imagenet256-f16-vq-llamagen"]),
        "statistics": statistics_table(),
        "sharded": sharded_table(large),
        "host": host_table(presets),
    }


def written(page: str, made: dict[str, str]) -> str:
    """The page with these tables between its marks."""
    for name, text in made.items():
        began, ended = f"<!-- table: {name} -->\n", "<!-- end -->"
        marked = re.compile(re.escape(began) + ".*?" + ended, re.DOTALL)
        page, count = marked.subn(lambda _: f"{began}{text}\n{ended}", page)
        if count != 1:
            raise SystemExit(f"{PAGE} has {count} places for the table {name!r}, marked {began.strip()} and {ended}")
    return page


def check_parameters(preset: Preset) -> None:
    """Fails if pixtok counts other parameters."""
    command = [PIXTOK, "train", ROOT / f"configs/{preset.name}.toml", "--dry-run", "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    parts = {part: parameters(getattr(preset, part)) for part in ("encoder", "quantizer", "decoder", "discriminator")}
    for part, ours in parts.items():
        found = re.search(rf"\b{part} (\d+)", said)
        counted = int(found[1]) if found else 0
        if done.returncode or counted != ours:
            raise SystemExit(f"{preset.name}: the {part} has {ours} parameters here and {counted} by pixtok, which said:\n{said}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="write the tables into docs/scaling.md")
    how.add_argument("--check", action="store_true", help="compare them with the page, and parameters with those of target/release/pixtok")
    args = parser.parse_args()
    made = tables()
    if not (args.write or args.check):
        print("\n\n".join(f"{name}\n\n{text}" for name, text in made.items()))
        return 0
    page = PAGE.read_text()
    new = written(page, made)
    if args.write:
        PAGE.write_text(new)
        return 0
    for name in PRESETS:
        check_parameters(read(name))
    if new != page:
        print("docs/scaling.md has other tables than scripts/scaling_model.py makes: run `just scaling-model`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
