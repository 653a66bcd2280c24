"""AdamW, gradient clipping and the schedule of PyTorch's own training loops.

Keys:
- `{0,1,2}/initial`, `gradient/{step}/{0,1,2}`, `lr` [10]: three parameters, their gradients, the learning rates;
- `{fused,plain,decay}/{step}/{0,1,2}/{value,exp_avg,exp_avg_sq}`: after each of ten steps; `decay` is the fused kernel
  with a weight decay of 0.1, for the 1e-4 of the others is hardly seen in ten steps;
- `clip/{over,under}/{norm,0,1,2}`: `clip_grad_norm_` to 1.0 of gradients whose norm is over and under it
  (`clip/{over,under}/gradient/{0,1,2}`);
- `schedule` [600]: 2e-3 · min(1, (s + 1) / 50) · ½ (1 + cos(π s / 600)), float64.
"""

import math

import torch

from common import generator, save

SHAPES = [[3, 5, 7], [11], [2, 3, 1, 3]]
STEPS = 10


def rate(step, *, peak, warmup, steps):
    return peak * min(1, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def train(initial, gradients, lrs, *, fused, weight_decay):
    parameters = [value.clone().requires_grad_() for value in initial]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=lrs[0],
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=weight_decay,
        amsgrad=False,
        maximize=False,
        foreach=False,
        capturable=False,
        differentiable=False,
        fused=fused,
    )
    after = {}
    for step, lr in enumerate(lrs):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for parameter, gradient in zip(parameters, gradients[step]):
            parameter.grad = gradient.clone()
        optimizer.step()
        for i, parameter in enumerate(parameters):
            moments = optimizer.state[parameter]
            after[f"{step}/{i}/value"] = parameter.detach().clone()
            after[f"{step}/{i}/exp_avg"] = moments["exp_avg"].clone()
            after[f"{step}/{i}/exp_avg_sq"] = moments["exp_avg_sq"].clone()
    return after


def clip(gradients):
    parameters = [torch.zeros_like(gradient).requires_grad_() for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0, norm_type=2.0, error_if_nonfinite=True, foreach=None)
    tensors = {f"gradient/{i}": gradient for i, gradient in enumerate(gradients)}
    return tensors | {"norm": norm} | {str(i): parameter.grad for i, parameter in enumerate(parameters)}


def main():
    random = generator(11)
    draw = lambda scale: [scale * torch.randn(shape, generator=random) for shape in SHAPES]
    initial, gradients = draw(1.0), [draw(10.0 ** -(step % 4)) for step in range(STEPS)]
    lrs = [rate(step, peak=1e-2, warmup=4, steps=STEPS) for step in range(STEPS)]
    tensors = {f"{i}/initial": value for i, value in enumerate(initial)}
    tensors |= {f"gradient/{s}/{i}": value for s, step in enumerate(gradients) for i, value in enumerate(step)}
    tensors["lr"] = torch.tensor(lrs, dtype=torch.float64)
    for name, fused, weight_decay in [("fused", True, 1e-4), ("plain", False, 1e-4), ("decay", True, 0.1)]:
        after = train(initial, gradients, lrs, fused=fused, weight_decay=weight_decay)
        tensors |= {f"{name}/{key}": value for key, value in after.items()}
    for name, scale in [("over", 3.0), ("under", 0.01)]:
        tensors |= {f"clip/{name}/{key}": value for key, value in clip(draw(scale)).items()}
    schedule = [rate(step, peak=2e-3, warmup=50, steps=600) for step in range(600)]
    save("adamw", tensors | {"schedule": torch.tensor(schedule, dtype=torch.float64)})


main()
