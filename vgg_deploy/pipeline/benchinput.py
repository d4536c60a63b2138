"""The input that everything is timed with."""

from __future__ import annotations

import numpy as np

from vgg_deploy.backends.base import Array
from vgg_deploy.bundle import Bundle


def make_input(bundle: Bundle, size: int) -> Array:
    """Seeded noise over the range that preprocessing makes: float32 ``[N, C, S, S]``."""
    spec = bundle.card.spec
    low, high = bundle.card.preprocessing.input_range
    shape = (size, spec.channels, spec.size, spec.size)
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
