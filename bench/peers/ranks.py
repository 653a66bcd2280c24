"""The program of train.py on several processes, as a user would write it: DistributedDataParallel over Gloo.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 ranks.py --batch 32 --threads 1     (and the same with RANK=1)

The arguments are those of train.py, and `--batch` is that of one process. Each prints a line of JSON: the images of all processes in
a second, in its own median step.
"""

import json
import statistics

import torch.distributed as dist
import train
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler


def wrap(model: nn.Module) -> nn.Module:
    """With what makes it faster here: gradients lie in the buckets, the graph never changes, and no step sends buffers, since
    vector-quantize-pytorch reduces the statistics of its codebook itself."""
    return DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True, forward_sync_buffers=False)


def main() -> None:
    args = train.arguments()
    dist.init_process_group("gloo")
    model, _ = train.build(args)
    photos = train.Photos(train.PHOTOS / "train", args.size, train=True)
    sampler = DistributedSampler(photos, shuffle=True, seed=args.seed, drop_last=True)
    seconds = train.train(model, args, wrap, sampler)
    images = args.batch * dist.get_world_size()
    print(json.dumps({"images_per_sec": images / statistics.median(seconds[args.skip :] or seconds)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
