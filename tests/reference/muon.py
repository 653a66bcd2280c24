"""Muon of PyTorch, its Newton-Schulz iteration in float32 instead of bfloat16 (`Tensor.bfloat16` is made to do nothing more), so
that the rest can be compared to float32's precision.

Keys: `{0,1,2}/initial`, `gradient/{step}/{0,1,2}`: a wide, a tall and a square matrix and their gradients;
`{step}/{0,1,2}/{value,momentum_buffer}`: after each of six steps at a learning rate of 0.02 and a weight decay of 0.1.
"""

import torch

from common import generator, save

SHAPES = [[5, 21], [24, 6], [7, 7]]
STEPS = 6


def main():
    torch.Tensor.bfloat16 = torch.Tensor.float
    random = generator(12)
    draw = lambda scale: [scale * torch.randn(shape, generator=random) for shape in SHAPES]
    initial, gradients = draw(1.0), [draw(10.0 ** -(step % 4)) for step in range(STEPS)]
    parameters = [value.clone().requires_grad_() for value in initial]
    optimizer = torch.optim.Muon(parameters, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    tensors = {f"{i}/initial": value for i, value in enumerate(initial)}
    for step, of_step in enumerate(gradients):
        for i, (parameter, gradient) in enumerate(zip(parameters, of_step)):
            parameter.grad = gradient.clone()
            tensors[f"gradient/{step}/{i}"] = gradient
        optimizer.step()
        for i, parameter in enumerate(parameters):
            tensors[f"{step}/{i}/value"] = parameter.detach().clone()
            tensors[f"{step}/{i}/momentum_buffer"] = optimizer.state[parameter]["momentum_buffer"].clone()
    save("muon", tensors)


main()
