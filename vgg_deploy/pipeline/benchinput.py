"""The input that everything is timed with."""

from __future__ import annotations

import numpy as np

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, example_shape
from vgg_deploy.bundle import Bundle


def not_taken(artifact: Artifact, size: int) -> str:
    """Why a file cannot run a batch of ``size``, and one that it can; empty where it can."""
    fixed = artifact.input.shape[0]
    sizes = ((fixed, fixed, fixed),) if isinstance(fixed, int) else ()
    profiles = sizes or (artifact.target.batches if artifact.target else ())
    if not profiles or any(low <= size <= high for low, _, high in profiles):
        return ""
    known = ", ".join(":".join(map(str, one)) for one in profiles)
    return (
        f"batch {size} is outside its profiles {known}; name one inside: --batch {profiles[0][1]}"
    )


def make_input(bundle: Bundle, size: int, artifact: Artifact | None = None) -> Array:
    """Seeded noise over the range that preprocessing makes: float32 ``[N, C, S, S]``.

    An embedded file gets pixels: 480×640, or the one size that it takes.
    """
    if artifact is not None and artifact.format == "embedded":
        shape = example_shape(artifact.input, size)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    spec = bundle.card.spec
    low, high = bundle.card.preprocessing.input_range
    shape = (size, spec.channels, spec.size, spec.size)
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
