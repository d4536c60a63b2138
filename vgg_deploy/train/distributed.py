"""Several processes as one: what ``torchrun`` starts, on one machine or many.

Gradients are averaged by torch's ``DistributedDataParallel``: gloo on CPUs, NCCL on GPUs. Every
process holds all images and takes its part of each batch, so that the batch, and with it the
gradient, does not depend on how many there are. Only rank 0 writes.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store

from vgg_deploy.errors import Interrupted, ResourceLimit, UsageError

# How long a process waits for the others; one that was killed is seen at once, this is for
# one that hangs. Longer than rank 0 needs for saving or testing.
TIMEOUT = timedelta(minutes=5)
_PAUSE = 0.05  # seconds between two looks at the store
_LOST = ("connection", "gloo", "nccl", "peer", "timed out", "socket", "process group")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among all of a run."""

    rank: int = 0
    size: int = 1
    restarted: bool = False  # after a failure, on any machine: then the last checkpoint counts
    job: str = ""  # the same for all starts that torchrun makes of it

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


def _restarts_here() -> int:
    """The failures that this machine's torchrun has counted.

    Each counts its own: one that starts again because another machine's process failed does not.
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Meet the other processes; alone without torchrun.

    A process that is lost becomes ``ResourceLimit`` in the others, soon and never a hang. On GPUs
    torch's own watchdog may end them first, in its words (TORCH_NCCL_ASYNC_ERROR_HANDLING is 3):
    with 2 an aborted exchange returns as if all were well, so it is left as it is.
    """
    if not started_by_torchrun():
        yield World(restarted=_restarts_here() > 0)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    failed = True
    try:
        start, job = _meet("nccl" if device.type == "cuda" else "gloo")
        failures = torch.tensor(_restarts_here(), device=device)
        dist.all_reduce(failures, dist.ReduceOp.MAX)
        again = start > 1 or int(failures) > 0
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), restarted=again, job=job)
        failed = False
    except Interrupted:  # all stop after the same step
        failed = False
        raise
    except (dist.DistError, RuntimeError) as error:
        if not _is_loss(error):
            raise
        raise ResourceLimit(
            f"another process of this run is gone: {_short(error)}",
            "torchrun --max-restarts 3 goes on by itself; else run it again with --resume",
        ) from error
    finally:
        if dist.is_initialized():
            _leave(device, failed=failed)


def _leave(device: torch.device, *, failed: bool) -> None:
    """Leave the group; after a failure without waiting for what NCCL has under way."""
    abort: Any = getattr(dist.distributed_c10d, "_abort_process_group", None)
    if failed and device.type == "cuda" and abort is not None:
        abort()
    else:
        dist.destroy_process_group()


def _meet(backend: str) -> tuple[int, str]:
    """Join the process group, under names of this start alone; its number, and the job's name.

    torchrun's own store outlives a restart, and with it the addresses of processes that are
    gone: under the usual names the new ones would try to reach those (seen with torch 2.14,
    ``--standalone``, where every restart failed).
    """
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    ours = PrefixStore("vgg-deploy", store)
    start, job = number_of_start(ours, rank, size), name_of_job(ours)
    dist.init_process_group(
        backend,
        store=PrefixStore(f"vgg-deploy/{start}", store),
        rank=rank,
        world_size=size,
        timeout=TIMEOUT,
    )
    return start, job


def name_of_job(store: Store) -> str:
    """The same for all processes and all starts of a job; empty where nobody starts it again.

    An agent's store outlives the processes: a name that is drawn there is no other job's. With
    any other store (``--rdzv-backend etcd``) only torchrun's own name stays, which may be that of
    an earlier job: "none", or a fixed ``--rdzv-id``.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return os.environ.get("TORCHELASTIC_RUN_ID", "")
    return bytes(store.compare_set("job", "", uuid.uuid4().hex)).decode()


def number_of_start(store: Store, rank: int, size: int) -> int:
    """How often rank 0 has begun to meet the others at this store, agreed by all, from 1.

    torchrun tells its processes no such number: each machine counts the failures of its own.
    Rank 0 answers whoever says hello, under a name that was drawn for this start; a hello of a
    process that is gone is answered, too, until the new one overwrites it.
    """
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    if rank:
        drawn = uuid.uuid4().hex
        store.set(f"hello/{rank}", drawn)
        _until(lambda: store.check([f"go/{drawn}"]), deadline)
        start = int(store.get(f"go/{drawn}"))
        store.set(f"joined/{start}/{rank}", "")
        return start
    start, missing = int(store.add("start", 1)), set(range(1, size))

    def all_joined() -> bool:
        for other in tuple(missing):
            if store.check([f"joined/{start}/{other}"]):
                missing.discard(other)
            elif store.check([f"hello/{other}"]):
                store.set(f"go/{store.get(f'hello/{other}').decode()}", str(start))
        return not missing

    _until(all_joined, deadline)
    return start


def _until(done: Callable[[], bool], deadline: float) -> None:
    """Ask again and again; waiting in the store itself would not hear Ctrl-C."""
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("timed out while the processes met")
        time.sleep(_PAUSE)


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

    if deterministic:
        _warned_already(device)
    return DistributedDataParallel(
        view,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=deterministic,
    )


def _warned_already(device: torch.device) -> None:
    """Let torch warn unseen, as it does once, that no parameter lacks a gradient here.

    The reducer writes that to stderr itself, past Python's warnings.
    """
    from torch.nn.parallel import DistributedDataParallel

    small = nn.PReLU(device=device)  # begins with no random number
    network = DistributedDataParallel(small, find_unused_parameters=True)
    with _no_stderr(), torch.enable_grad():
        network(torch.zeros(1, device=device))


@contextmanager
def _no_stderr() -> Iterator[None]:
    """What is written to the process's stderr meanwhile, by whatever language, is lost."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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
