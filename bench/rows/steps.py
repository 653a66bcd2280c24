"""A training step of the yardstick, its loader included: ours beside PyTorch's."""

import statistics
from pathlib import Path

from cost import operations_per_image
from programs import Child, Failed, Figures, peer, rows_of, train_command
from rows.plan import Plan
from turns import Arm, Group, Kind, Row, Turn, compare

# Our speed is the median over windows of so many steps.
WINDOW = 10
FSQ, VQ = "configs/photos96-fsq.toml", "configs/photos96-vq.toml"
# The recipes that reach a quality soonest.
QUICK_FSQ, QUICK_VQ = "configs/quickstart-fsq.toml", "configs/quickstart-vq.toml"
# A step on 8×8 pixels, whose time is that of the calls.
TINY = ["data.image_size=8", "train.batch_size=1", 'train.precision="fp32"']
# The discriminator of `peers/adversarial.py`.
ADVERSARY = """{weight=0.1,weighting={kind="adaptive"},discriminator={kind="patch",channels=16,layers=2,norm="group"},\
optimizer={lr=1e-3,betas=[0.5,0.9],weight_decay=0.0,schedule={kind="constant"}}}"""
# ViT-S/16 in either half, at 256×256, as `peers/vit.py` has it. The photographs are enlarged, on both sides.
VIT = "configs/photos96-vit-fsq.toml"
OF_VIT = [
    'model={kind="vit",size="S",patch=16}',
    "data.image_size=256",
    "data.resize=256",
    'optimizer={lr=2e-3,betas=[0.9,0.95],weight_decay=1e-4,decayed="all",clip_norm=1.0,schedule={kind="cosine",warmup_steps=0}}',
    "train.batch_size=2",
    'train.precision="fp32"',
    # The evaluation at the end takes no more memory than a step.
    "eval.batch_size=2",
    "eval.max_images=2",
]
EAGER = ["torch-fsq", "torch-fsq-plain", "torch-fsq-channels-last", "torch-fsq-glibc"]
# glibc keeps the memory that large tensors leave, instead of giving it back with every operation: some percent faster, and ours
# does so by itself. Every peer has it but one.
KEEP = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "100000000"}
# Steps of vector-quantize-pytorch, which takes seconds for one at the largest size, and those at the beginning that do not count.
VQ_STEPS = {1024: (40, 10), 4096: (15, 5), 16384: (5, 2)}
VQ_BARS = {1024: 1.6, 4096: 3.5, 16384: 12.0}


def ours(
    plan: Plan, name: str, config: str, steps: int, settings: list[str] = [], window: int = WINDOW, env: dict[str, str] = {}
) -> Arm:
    """`pixtok train`, as anyone runs it; it also evaluates and saves at the end, which counts in its memory alone."""
    every = timed(plan, steps, window)

    def arm(turn: int) -> Figures:
        run = plan.folder(name, turn)
        with Child(train_command(config, run, plan.threads, [*every, *settings]), env) as child:
            _, usage = child.finish()
        return usage | {"images_per_sec": rate(run)}

    return arm


def timed(plan: Plan, steps: int, window: int = WINDOW) -> list[str]:
    """The settings of a run that is only timed."""
    steps = plan.steps(steps)
    window = min(window, steps // 2)
    count = [f"train.steps={steps}", f"train.log_every={window}", f"train.precision={plan.precision}"]
    # The rate does not depend on the schedule, whose warm-up is longer than some of these runs.
    return [*count, "train.eval_every=100000", "train.checkpoint_every=100000", "optimizer.schedule.warmup_steps=0"]


def rate(run: Path) -> float:
    """Images a second in the median window of a run's log."""
    rates = [row["speed/images_per_sec"] for row in rows_of(run) if "speed/images_per_sec" in row]
    if len(rates) < 2:
        raise Failed(f"{run}/metrics.jsonl has {len(rates)} rows with a speed")
    # The first has the start of the loader in it.
    return statistics.median(rates[1:])


def theirs(plan: Plan, steps: int, *args, skip: int = 10, env: dict[str, str] = KEEP, program: str = "train.py") -> Arm:
    steps = plan.steps(steps)
    counted = ["--precision", plan.precision, "--steps", steps, "--skip", min(skip, steps - 1), "--threads", plan.threads]
    return lambda _: peer(program, *counted, *args, env=env)


def of_bf16(plan: Plan, bar: float) -> float | None:
    """A bar that was set for bf16; in fp32 the row reports without a bar."""
    return bar if plan.precision == "bf16" else None


def fsq(plan: Plan) -> Group:
    return Group(
        "fsq",
        {
            "fsq": ours(plan, "fsq", FSQ, 60),
            "torch-fsq": theirs(plan, 60),
            "torch-fsq-plain": theirs(plan, 60, "--layout", "plain"),
            "torch-fsq-channels-last": theirs(plan, 60, "--layout", "channels-last"),
            "torch-fsq-glibc": theirs(plan, 60, env={}),
            "torch-fsq-fp32": theirs(plan, 40, "--precision", "fp32"),
            "torch-fsq-compiled": theirs(plan, 60, "--compile"),
        },
        [
            compare("step-fsq", f"FSQ step, the best of four settings of eager {plan.precision} PyTorch", "fsq", EAGER, 1.0),
            compare("step-fsq-fp32", "FSQ step, default eager fp32 PyTorch", "fsq", "torch-fsq-fp32", of_bf16(plan, 1.5)),
            compare("step-fsq-compile", f"FSQ step, torch.compile {plan.precision}", "fsq", "torch-fsq-compiled", of_bf16(plan, 1.1)),
            compare("memory", f"peak memory of training, eager {plan.precision}", "fsq", ["torch-fsq", "torch-fsq-glibc"], 0.8, "peak_mib", "MiB", Kind.AT_MOST),
        ],
    )


def fp32(plan: Plan) -> Group:
    """The quick start's step in float32, as a processor without instructions for bf16 takes it."""
    same = ["--batch", 16, "--precision", "fp32"]
    return Group(
        "fp32",
        {
            "quick-fp32": ours(plan, "quick-fp32", QUICK_FSQ, 80, ["train.precision=fp32"]),
            "torch-quick-fp32": theirs(plan, 80, *same),
            "torch-quick-fp32-plain": theirs(plan, 80, *same, "--layout", "plain"),
            "torch-quick-fp32-channels-last": theirs(plan, 80, *same, "--layout", "channels-last"),
        },
        [
            compare(
                "step-fp32",
                "quick-start step in fp32, the best of three layouts of eager fp32 PyTorch",
                "quick-fp32",
                ["torch-quick-fp32", "torch-quick-fp32-plain", "torch-quick-fp32-channels-last"],
                1.3,
            )
        ],
    )


def vq(plan: Plan, codes: int) -> Group:
    steps, skip = VQ_STEPS[codes]
    name = f"vq-{codes}"
    arms = {
        name: ours(plan, name, VQ, 40, [f"quantizer.codebook_size={codes}"]),
        f"torch-{name}": theirs(plan, steps, "--quantizer", "vq", "--codebook-size", codes, skip=skip),
    }
    rows = [compare(f"step-{name}", f"VQ {codes} step, vector-quantize-pytorch", name, f"torch-{name}", of_bf16(plan, VQ_BARS[codes]))]
    if codes == 16384:
        arms["fsq"] = ours(plan, f"{name}-fsq", FSQ, 40)
        rows.append(
            Row(
                "vq-16384-over-fsq",
                "VQ 16384 step, FSQ step, both ours",
                "ms",
                Kind.AT_MOST,
                1.3,
                [name, "fsq"],
                lambda turns: [(step_ms(turn[name]), step_ms(turn["fsq"])) for turn in turns],
            )
        )
    return Group(name, arms, rows)


def step_ms(figures: Figures, batch: int = 32) -> float:
    return 1e3 * batch / figures["images_per_sec"]


def dispatch(plan: Plan) -> Group:
    # A DataLoader takes as long to hand over one tiny image as such a step takes; ours is left in.
    tiny = ["--size", 8, "--batch", 1, "--precision", "fp32", "--one-batch", "--workers", 0]
    return Group(
        "dispatch",
        {
            "tiny": ours(plan, "tiny", FSQ, 1000, TINY, window=100),
            "torch-tiny": theirs(plan, 1000, *tiny, skip=100),
        },
        [compare("step-dispatch", "FSQ step of one 8×8 image, fp32, eager PyTorch", "tiny", "torch-tiny", 1.4)],
    )


def adversarial(plan: Plan) -> Group:
    """With a discriminator from the first step on."""
    return Group(
        "adversarial",
        {
            "adversarial": ours(plan, "adversarial", FSQ, 40, [f"adversarial={ADVERSARY}"]),
            "torch-adversarial": theirs(plan, 40, program="adversarial.py"),
            "torch-adversarial-channels-last": theirs(plan, 40, "--layout", "channels-last", program="adversarial.py"),
        },
        [
            compare(
                "step-adversarial",
                f"FSQ step with a discriminator, the best of two settings of eager {plan.precision} PyTorch",
                "adversarial",
                ["torch-adversarial", "torch-adversarial-channels-last"],
                1 / 1.05,
            )
        ],
    )


def vit(plan: Plan) -> Group:
    return Group(
        "vit",
        {
            "vit": ours(plan, "vit", VIT, 32, OF_VIT, window=4),
            "torch-vit": theirs(plan, 32, "--precision", "fp32", skip=4, program="vit.py"),
            "torch-vit-glibc": theirs(plan, 32, "--precision", "fp32", skip=4, program="vit.py", env={}),
        },
        [
            compare("step-vit", "ViT-S/16 step, 256×256, batch 2, eager fp32 PyTorch", "vit", ["torch-vit", "torch-vit-glibc"], 0.97),
            compare(
                "memory-vit",
                "peak memory of training ViT-S/16, eager fp32",
                "vit",
                ["torch-vit", "torch-vit-glibc"],
                1.0,
                "peak_mib",
                "MiB",
                Kind.AT_MOST,
            ),
        ],
    )


def share(plan: Plan) -> Group:
    """How much of the machine's rate a step reaches; FSQ with 16 and with 32 channels. Operations are those of the network as it is
    written, on both sides: what is saved by not doing some of them counts as speed."""

    def row(channels: int, bar: str) -> Row:
        def pair(turn: Turn) -> tuple[float, float]:
            percent = 100 * operations_per_image(channels) / turn["matmul"]["operations_per_sec"]
            mine, other = (turn[arm]["images_per_sec"] for arm in (f"fsq-{channels}", f"torch-fsq-{channels}"))
            return percent * mine, percent * other

        what = f"share of the {plan.precision} matrix rate, {channels} channels (aim {bar})"
        arms = ["matmul", f"fsq-{channels}", f"torch-fsq-{channels}"]
        return Row(f"share-{channels}", what, "%", Kind.MORE, 1.0, arms, lambda turns: list(map(pair, turns)))

    return Group(
        "share",
        {
            "matmul": lambda _: peer("matmul.py", "--threads", plan.threads, "--precision", plan.precision),
            "fsq-16": ours(plan, "share-16", FSQ, 40),
            "torch-fsq-16": theirs(plan, 40),
            "fsq-32": ours(plan, "share-32", FSQ, 20, ["model.channels=32"], window=5),
            "torch-fsq-32": theirs(plan, 20, "--channels", 32, skip=5),
        },
        [row(16, "50 %"), row(32, "75 %")],
    )


def groups(plan: Plan) -> list[Group]:
    return [fsq(plan), fp32(plan), *(vq(plan, codes) for codes in VQ_STEPS), vit(plan), adversarial(plan), dispatch(plan), share(plan)]
