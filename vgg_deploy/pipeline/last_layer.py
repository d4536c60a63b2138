"""What becomes of the last layer when a network is fine-tuned: its rows are its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vgg_deploy.spec import unnamed_labels

if TYPE_CHECKING:
    import torch


def begun_with(
    state: Mapping[str, torch.Tensor], old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of a network of the labels ``old`` to begin with for ``new``, and what to say.

    The last layer stays where its classes are those wanted, in the order wanted; without it, it
    begins afresh. Nothing is said where nothing changes.
    """
    from vgg_deploy.train.setup import LAST_LAYER

    if old == new:
        return dict(state), ""
    if sorted(old) == sorted(new):
        rows = [old.index(label) for label in new]
        kept = {k: v[rows] if k.startswith(LAST_LAYER) else v for k, v in state.items()}
        return kept, "the last layer is kept, its rows in the order of the data set's classes"
    if old == unnamed_labels(len(new)):
        return dict(state), (
            "the last layer is kept: its classes have no names and are matched by position, "
            f"class 0 is {new[0]!r}"
        )
    begun = {k: v for k, v in state.items() if not k.startswith(LAST_LAYER)}
    return begun, f"the last layer begins afresh: other classes, {_difference(old, new)}"


def _difference(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    if len(old) != len(new):
        return f"{len(new):,} instead of {len(old):,}"
    added = next((label for label in new if label not in old), new[0])
    gone = next((label for label in old if label not in new), old[0])
    return f"such as {added!r}, not {gone!r}"
