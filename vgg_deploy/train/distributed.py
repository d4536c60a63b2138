"""Several processes as one: what ``torchrun`` starts, on one machine or many.

Gradients are averaged by torch's ``DistributedDataParallel``: gloo on CPUs, NCCL on GPUs. Every
process holds all images and takes its part of each batch, so that the batch, and with it the
gradient, does not depend on how many there are. Only rank 0 writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed as dist
from torch import nn

from vgg_deploy.errors import ResourceLimit, UsageError

# How long a process waits for the others; one that was killed is seen at once, this is for
# one that hangs. Longer than rank 0 needs for saving or testing.
TIMEOUT = timedelta(minutes=5)
_LOST = ("connection", "gloo", "nccl", "peer", "timed out", "socket", "process group")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among all of a run."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def part(self, chosen: torch.Tensor) -> torch.Tensor:
        """This process's share of a batch; shares differ by at most one image."""
        return torch.tensor_split(chosen, self.size)[self.rank]

    def share(self, tensors: list[torch.Tensor]) -> None:
        """Give every process rank 0's values, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            flat = tensor.detach().contiguous()  # channels-last ones are not
            dist.broadcast(flat, 0)
            with torch.no_grad():
                tensor.copy_(flat)

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def same_text(self, text: str) -> str:
        """Rank 0's text."""
        if self.size == 1:
            return text
        holder = [text]
        dist.broadcast_object_list(holder, 0)
        return holder[0]


def started_by_torchrun() -> bool:
    """Whether this process is one of several that belong together."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this process writes and speaks; known before the processes have met."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def was_restarted() -> bool:
    """Whether torchrun started this again after a failure: then the last checkpoint counts."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Meet the other processes; alone without torchrun.

    A process that is lost becomes ``ResourceLimit`` in the others, soon and never a hang.
    """
    if not started_by_torchrun():
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        _meet("nccl" if device.type == "cuda" else "gloo")
        yield World(rank=dist.get_rank(), size=dist.get_world_size())
    except (dist.DistError, RuntimeError) as error:
        if not _is_loss(error):
            raise
        raise ResourceLimit(
            f"another process of this run is gone: {_short(error)}",
            "torchrun --max-restarts 3 goes on by itself; else run it again with --resume",
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(backend: str) -> None:
    """Join the process group, under names of this start alone.

    torchrun's own store outlives a restart, and with it the addresses of processes that are
    gone: under the usual names the new ones would try to reach those (seen with torch 2.14,
    ``--standalone``, where every restart failed).
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    start = f"vgg-deploy/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{size}"
    dist.init_process_group(
        backend,
        store=PrefixStore(start, store),
        rank=rank,
        world_size=size,
        timeout=TIMEOUT,
    )


def _short(error: Exception) -> str:
    """What a transport says without the place in its source and its advice."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"\[/\S+\] ?", "", text).split(". ")[0][:160]


def parallel(
    view: nn.Module, world: World, device: torch.device, *, deterministic: bool = False
) -> nn.Module:
    """The network with gradients averaged over all processes; itself where it is alone.

    After its first step torch sorts the gradients anew into the pieces it sends, and with that
    the order in which they are added changes: a run that is resumed would differ in the last
    bit. It does not sort while it looks for parameters without a gradient, so with
    ``deterministic`` it looks.
    """
    if world.size == 1:
        return view
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(
        view,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=deterministic,
    )


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process; ``UsageError`` where a machine has fewer than processes."""
    if device.type != "cuda" or not started_by_torchrun():
        return device
    index, present = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= present:
        raise UsageError(
            f"process {index + 1} of this machine has no GPU: there are {present}",
            f"use --nproc-per-node {present}, or --device cpu",
        )
    return torch.device("cuda", index)


def _is_loss(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in _LOST)
