"""The program of train.py on several processes, as a user would write it: DistributedDataParallel over Gloo.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 ranks.py --batch 32 --threads 1     (and the same with RANK=1)

The arguments are those of train.py, and `--batch` is that of one process. Each prints a line of JSON: the images of all processes in
a second, in its own median step. With EXCHANGE=hooks the gradients are exchanged by hooks, as pixtok does it, in place of c10d's
Reducer, which DistributedDataParallel uses.
"""

import json
import os
import statistics

import torch
import torch.distributed as dist
import train
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler


def wrap(model: nn.Module) -> nn.Module:
    """With what makes it faster here: gradients lie in the buckets, the graph never changes, and no step sends buffers, since
    vector-quantize-pytorch reduces the statistics of its codebook itself."""
    return DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True, forward_sync_buffers=False)


class Hooks(nn.Module):
    """Exchanges the gradients in buckets of c10d's sizes, each when its last gradient is there, and waits at the end of backward."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        parameters = [p for p in model.parameters() if p.requires_grad][::-1]
        assigned, _ = dist._compute_bucket_assignment_by_size(parameters, [2**20, 25 * 2**20])
        self.buckets = [[parameters[i] for i in bucket] for bucket in assigned]
        self.flat = [torch.empty(sum(p.numel() for p in bucket)) for bucket in self.buckets]
        self.views = [[part.view_as(p) for part, p in zip(flat.split([p.numel() for p in bucket]), bucket)] for flat, bucket in zip(self.flat, self.buckets)]
        self.works = []
        for at, bucket in enumerate(self.buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(lambda _, at=at: self.ready(at))

    def forward(self, images: torch.Tensor):
        self.missing = [len(bucket) for bucket in self.buckets]
        return self.model(images)

    @torch.no_grad()
    def ready(self, at: int) -> None:
        if not self.works and all(len(bucket) == left for bucket, left in zip(self.buckets, self.missing)):
            torch.autograd.Variable._execution_engine.queue_callback(self.finish)
        self.missing[at] -= 1
        while len(self.works) < len(self.buckets) and self.missing[len(self.works)] == 0:
            flat, views = self.flat[len(self.works)], self.views[len(self.works)]
            torch._foreach_copy_(views, [p.grad for p in self.buckets[len(self.works)]])
            flat.div_(dist.get_world_size())
            self.works.append(dist.all_reduce(flat, async_op=True))

    def finish(self) -> None:
        for work, bucket, views in zip(self.works, self.buckets, self.views, strict=True):
            work.wait()
            for parameter, view in zip(bucket, views):
                parameter.grad = view
        self.works.clear()


def main() -> None:
    args = train.arguments()
    dist.init_process_group("gloo")
    model, _ = train.build(args)
    photos = train.Photos(train.PHOTOS / "train", args.size, train=True)
    sampler = DistributedSampler(photos, shuffle=True, seed=args.seed, drop_last=True)
    seconds = train.train(model, args, Hooks if os.environ.get("EXCHANGE") == "hooks" else wrap, sampler)
    images = args.batch * dist.get_world_size()
    print(json.dumps({"images_per_sec": images / statistics.median(seconds[args.skip :] or seconds)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
