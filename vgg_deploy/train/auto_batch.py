"""What to do when a batch does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import distributed as dist

from vgg_deploy.errors import ResourceLimit, says_out_of_memory
from vgg_deploy.train.step import Images, Trainer


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is memory, of the device or the host, that an operation lacked."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def fitting(trainer: Trainer, data: Images) -> int:
    """Into how many pieces a batch must be split to fit; the weights are not touched.

    With several processes the number that fits on all of them. ``ResourceLimit`` when not
    even one image does.
    """
    pieces = trainer.accumulate
    share = -(-trainer.batch // trainer.world.size)
    while not _fits(trainer, data, -(-share // pieces)):
        if pieces >= share:
            raise ResourceLimit(
                "not even one image fits into memory", "use a smaller --size, --width or --arch"
            )
        pieces = min(2 * pieces, share)
    most = torch.tensor(pieces, device=trainer.device)
    if trainer.world.size > 1:
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


@contextmanager
def refused(trainer: Trainer, data: Images) -> Iterator[None]:
    """Within the block running out of memory names the largest batch that fits."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = error
    else:
        return
    raise _no_room(trainer, data) from failed


def _no_room(trainer: Trainer, data: Images) -> ResourceLimit:
    asked = -(-trainer.batch // (trainer.accumulate * trainer.world.size))
    size = asked
    while size > 1 and not _fits(trainer, data, size):
        size //= 2
    remedy = f"{size} at once would fit: --batch {size}, or --auto-batch to split it"
    if size <= 1:
        remedy = "use a smaller --size, --width or --arch"
    return ResourceLimit(f"not enough memory for {asked} images at once", remedy)


def _fits(trainer: Trainer, data: Images, size: int) -> bool:
    """Try forward and backward of ``size`` images; gradients and batch norm are put back."""
    alone = replace(trainer, network=getattr(trainer.network, "module", trainer.network))
    chosen = torch.arange(size, device=trainer.device) % len(data)
    kept = {name: value.clone() for name, value in trainer.model.named_buffers()}
    alone.network.train()
    try:
        alone.backward(data.pixels[chosen], data.labels[chosen], size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        trainer.optimiser.zero_grad()
        for name, value in trainer.model.named_buffers():
            value.copy_(kept[name])
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
