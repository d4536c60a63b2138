"""What to do when a batch does not fit into memory."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import distributed as dist

from vgg_deploy.errors import ResourceLimit, counted, says_out_of_memory
from vgg_deploy.train.step import Images, Trainer

_NEVER = 1 << 40  # pieces, where no number is enough


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is memory, of the device or the host, that an operation lacked."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def release(error: BaseException, device: torch.device) -> None:
    """Let go of what the frames of a failed attempt still hold on the device."""
    traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def fitting(trainer: Trainer, data: Images) -> int:
    """Into how many pieces a batch must be split to fit; the weights are not touched.

    With several processes the number that fits on all of them. ``ResourceLimit`` when not
    even one image does.
    """
    pieces = trainer.accumulate
    share = -(-trainer.batch // trainer.world.size)
    while not _fits(trainer, data, -(-share // pieces)):
        if pieces >= share:
            pieces = _NEVER
            break
        pieces = min(2 * pieces, share)
    most = torch.tensor(pieces, device=trainer.device)
    if trainer.world.size > 1:  # also where nothing fits: the others wait for it
        dist.all_reduce(most, dist.ReduceOp.MAX)
    if int(most) == _NEVER:
        raise ResourceLimit(
            "not even one image fits into memory", "use a smaller --size, --width or --arch"
        )
    return int(most)


@contextmanager
def refused(trainer: Trainer, data: Images) -> Iterator[None]:
    """Within the block running out of memory names the largest batch that fits."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        trainer.optimiser.zero_grad()
        release(error, trainer.device)
        failed = error
    else:
        return
    raise _no_room(trainer, data) from failed


def _no_room(trainer: Trainer, data: Images) -> ResourceLimit:
    asked = -(-trainer.batch // (trainer.accumulate * trainer.world.size))
    cause = f"not enough memory for {counted(asked, 'image')} at once"
    if trainer.world.size > 1:  # the failed step's exchange of gradients is still under way
        return ResourceLimit(f"{cause} in each process", "--auto-batch splits the batch")
    size = asked // 2  # all of it may fit now, but did not
    while size > 1 and not _fits(trainer, data, size):
        size //= 2
    remedy = f"{size} at once would fit: --batch {size}, or --auto-batch to split it"
    if size <= 1:
        remedy = "use a smaller --size, --width or --arch"
    return ResourceLimit(cause, remedy)


def _fits(trainer: Trainer, data: Images, size: int) -> bool:
    """Try forward and backward of ``size`` images; gradients and batch norm are put back."""
    alone = replace(trainer, network=getattr(trainer.network, "module", trainer.network))
    chosen = torch.arange(size, device=trainer.device) % len(data)
    kept = {name: value.clone() for name, value in trainer.model.named_buffers()}
    alone.network.train()
    try:
        momentum = _momentum_to_come(trainer)
        alone.backward(data.pixels_of(chosen), data.labels[chosen], size)
        del momentum
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        release(error, trainer.device)
        return False
    finally:
        trainer.optimiser.zero_grad()
        for name, value in trainer.model.named_buffers():
            value.copy_(kept[name])
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _momentum_to_come(trainer: Trainer) -> list[torch.Tensor]:
    """As much memory as the optimiser takes in its first step, where it has made none."""
    if trainer.optimiser.state or not trainer.recipe.momentum:
        return []
    groups = trainer.optimiser.param_groups
    return [torch.empty_like(parameter) for group in groups for parameter in group["params"]]
