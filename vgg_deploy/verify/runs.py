"""Running a session so that it cannot pass by luck.

All images go through the largest batch size. At every size a few of them run again, in other
calls, another order and other positions, and at least two calls get different images: a result
that depends on the rest of the batch, or is left over from the last call, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Session
from vgg_deploy.verify.accuracy import BATCH
from vgg_deploy.verify.inputs import Inputs

PROBES = 4  # images that run again at each batch size
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Call:
    """One call of a session: the images it got and what came back."""

    indices: Indices
    outputs: Array

    @property
    def size(self) -> int:
        """Images in the batch."""
        return len(self.indices)


def batch_sizes(artifact: Artifact, wanted: Sequence[int]) -> tuple[int, ...]:
    """The sizes an artifact is run at: those wanted that it takes, and the ends of what it takes.

    One that was made for a single size is run at that one.
    """
    fixed = artifact.input.shape[0]
    if isinstance(fixed, int):
        return (fixed,)
    profiles = _profiles(artifact)
    taken = [s for s in wanted if not profiles or any(p[0] <= s <= p[-1] for p in profiles)]
    ends = [size for profile in profiles for size in (profile[0], profile[-1])]
    return tuple(dict.fromkeys([*taken, *ends]))


def accuracy_batch(artifact: Artifact) -> int:
    """A batch size for many images that the artifact takes."""
    fixed = artifact.input.shape[0]
    if isinstance(fixed, int):
        return fixed
    profiles = _profiles(artifact) or ((1, BATCH, BATCH),)
    taken = [min(BATCH, high) for low, _, high in profiles if low <= BATCH]
    return max(taken, default=min(low for low, _, _ in profiles))


def _profiles(artifact: Artifact) -> tuple[tuple[int, int, int], ...]:
    """Smallest, best and largest batch of each optimization profile of an engine."""
    return artifact.target.batches if artifact.target else ()


def schedule(
    parts: Sequence[tuple[int, int]], sizes: Sequence[int], *, full: bool = False
) -> Iterator[Indices]:
    """Which images each call gets: everything at the largest size, then the probes.

    What is left over after two full batches is a smaller one, unless all have to be ``full``.
    """
    largest = max(sizes)
    for start, end in parts:
        everything = np.arange(start, end)
        chunks = [_filled(everything, at, largest) for at in range(0, len(everything), largest)]
        if not full and len(chunks) > 2:
            chunks[-1] = everything[(len(chunks) - 1) * largest :]
        yield from chunks
        if len(chunks) == 1:
            yield chunks[0][::-1]
    start, end = max(parts, key=lambda part: part[1] - part[0])
    turned = np.roll(np.arange(start, end)[::-1], (end - start) // 2)
    for size in sizes:
        # where a call holds all images equally often, the next one would be the same
        step = size + (size % len(turned) == 0)
        # of the largest size there are calls enough, so one more will do beside other sizes
        calls = 1 if size == largest and len(sizes) > 1 else 2
        for at in range(0, max(PROBES, calls * step), step):
            yield _filled(turned, at, size)


def run_calls(
    session: Session,
    inputs: Inputs,
    artifact: Artifact,
    sizes: Sequence[int],
    on_images: Callable[[int], None] = lambda _: None,
) -> tuple[Call, ...]:
    """Run a session by the schedule.

    Outputs are looked at only when all calls are over, so that a buffer that is handed out twice
    shows, too.
    """
    calls = []
    for indices in _calls_for(inputs, artifact, sizes):
        calls.append(Call(indices, session(inputs.take(indices, artifact.input))))
        on_images(len(indices))
    return tuple(calls)


def images_to_run(inputs: Inputs, artifact: Artifact, sizes: Sequence[int]) -> int:
    """How many images the schedule has in all."""
    return sum(len(indices) for indices in _calls_for(inputs, artifact, sizes))


def _calls_for(inputs: Inputs, artifact: Artifact, sizes: Sequence[int]) -> Iterator[Indices]:
    """The schedule of an artifact; engines and files for one batch size take no smaller one."""
    full = isinstance(artifact.input.shape[0], int) or bool(_profiles(artifact))
    return schedule(inputs.parts(artifact.input), sizes, full=full)


def first_outputs(calls: Sequence[Call], count: int) -> Array:
    """The logits ``[count, classes]`` of every image, from the first call that had it.

    NaN where no call had it.
    """
    classes = calls[0].outputs.shape[1]
    outputs = np.full((count, classes), np.nan)
    for call in reversed(calls):
        outputs[call.indices] = call.outputs
    return outputs


def furthest_outputs(calls: Sequence[Call], reference: NDArray[np.float64]) -> Array:
    """The logits ``[N, classes]`` of every image, from the call furthest from the reference.

    NaN where no call had it.
    """
    have = np.concatenate([call.outputs for call in calls])
    indices = np.concatenate([call.indices for call in calls])
    order = np.linalg.norm(have - reference[indices], axis=1).argsort(kind="stable")
    outputs = np.full(reference.shape, np.nan)
    outputs[indices[order]] = have[order]  # of several outputs of an image, the last one stays
    return outputs


def _filled(images: Indices, start: int, size: int) -> Indices:
    """``size`` images from ``start`` on, round and round."""
    chosen: Indices = images[np.arange(start, start + size) % len(images)]
    return chosen
