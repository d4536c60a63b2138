"""The mistake that explains best what is wrong with a foreign app's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.errors import RefusedInput
from vgg_deploy.golden import AppResults, GoldenImage, GoldenIndex, Selfcheck, Suspect
from vgg_deploy.spec import Preprocessing
from vgg_deploy.verify.compare import softmax
from vgg_deploy.verify.mistakes import (
    EXCHANGED,
    INPUT_MISTAKES,
    OUTPUT_MISTAKES,
    Floats,
    Make,
    Pixels,
)
from vgg_deploy.verify.order import nearest, order_of_classes, order_told
from vgg_deploy.verify.selfcheck import as_array, judge_results

# Blocks [N, C, S, S], and how many images they hold in all, to logits [N, classes] of each.
Network = Callable[[Iterable[Floats], int], Iterable[Floats]]
_EXPLAINS = 0.2  # of the error may be left for a mistake to count as the cause
_SHOWN = 3
_HUGE = 1e100  # below it squares and their sums are finite
_OTHER_CLASSES, _OTHER_IMAGES = "classes-reordered", "images-mixed-up"


@dataclass(frozen=True)
class _Given:
    """Finite outputs of the app beside the reference, image by image: ``[N, classes]``."""

    kind: str  # "logits" or "probabilities"
    rows: Sequence[int]  # into the index
    have: Floats
    logits: Floats  # the reference's
    noise: float  # the narrowest bound


def diagnose(
    found: Selfcheck,
    index: GoldenIndex,
    results: AppResults,
    pixels: Callable[[GoldenImage], Pixels],
    network: Network,
) -> Selfcheck:
    """The verdict with the mistakes that fit best; ``network`` computes what each would give."""
    parts = [part for kind in ("logits", "probabilities") if (part := _given(kind, index, results))]
    wrong = [part for part in parts if _error(part) > _bound(part, index, results)]
    if not wrong:  # what is missing, not finite or huge has no pattern
        return found
    suspects = [_output_suspects(part) for part in wrong]
    images = [pixels(index.images[row]) for row in wrong[0].rows]
    suspects[0] += _input_suspects(wrong[0], images, index.preprocessing, network)
    for part, of_kind in zip(wrong, suspects, strict=True):
        # Only then: probabilities near 0 and 1 fit other images, whatever made them wrong.
        if not _explains(suspects[0]):
            of_kind.extend(_order_suspects(part, index.labels))
    ordered = _ordered(suspects)[:_SHOWN]
    explained = _explains(ordered)
    within = None if explained else _coarser(index, results)
    return replace(found, suspects=tuple(ordered), explained=explained, within=within)


def _explains(suspects: Sequence[Suspect]) -> bool:
    """Whether some of them leaves little enough of the error."""
    return any(suspect.residual <= _EXPLAINS for suspect in suspects)


def _ordered(suspects: Sequence[Sequence[Suspect]]) -> list[Suspect]:
    """The suspects of each kind of output, the best first.

    Where logits and probabilities have an output mistake of their own each, the first is both.
    """
    every = sorted((s for of_kind in suspects for s in of_kind), key=lambda s: s.residual)
    best = list({s.name: s for s in every[::-1]}.values())  # each once, where it fits best
    best.sort(key=lambda s: s.residual)
    firsts = [min(of_kind, key=lambda s: s.residual) for of_kind in suspects if of_kind]
    names = [first.name for first in firsts]
    explained = all(s.name in OUTPUT_MISTAKES and s.residual <= _EXPLAINS for s in firsts)
    if len(names) < 2 or not explained:
        return best
    name, cause = "+".join(names), ", and ".join(first.cause for first in firsts)
    if names == EXCHANGED:
        name, cause = "outputs-exchanged", "logits and probabilities are exchanged"
    both = Suspect(name=name, cause=cause, residual=max(first.residual for first in firsts))
    return [both, *(s for s in best if s.name not in names)]


def _coarser(index: GoldenIndex, results: AppResults) -> Precision | None:
    """The first half precision, coarser than the one told, that the results would pass as."""
    told = index.tolerances[results.precision]
    halves: tuple[Precision, ...] = ("fp16", "bf16")
    for precision in halves:
        other = replace(results, precision=precision)
        coarser = index.tolerances[precision].logits > told.logits
        if coarser and _passes(index, other):
            return precision
    return None


def _passes(index: GoldenIndex, results: AppResults) -> bool:
    try:
        return judge_results(index, results).verdict == "equivalent"
    except RefusedInput:  # at that precision nothing can be judged
        return False


def _given(kind: str, index: GoldenIndex, results: AppResults) -> _Given | None:
    by_name = {output.name: getattr(output, kind) for output in results.images}
    rows, have = [], []
    for row, image in enumerate(index.images):
        values = by_name.get(image.name)
        if values is None or len(values) != len(index.labels):
            continue
        array = as_array(values)
        if (np.abs(array) < _HUGE).all():
            rows.append(row)
            have.append(array)
    if not rows:
        return None
    logits = np.array([index.images[row].logits for row in rows])
    noise = min(getattr(bound, kind) for bound in index.tolerances.values())
    return _Given(kind, rows, np.array(have), logits, noise)


def _as(kind: str, logits: Floats) -> Floats:
    return logits if kind == "logits" else softmax(logits)


def _error(part: _Given) -> float:
    return float(np.abs(part.have - _as(part.kind, part.logits)).max())


def _bound(part: _Given, index: GoldenIndex, results: AppResults) -> float:
    bound = index.tolerances[results.precision]
    return bound.logits if part.kind == "logits" else bound.probabilities


def _residual(part: _Given, would: Floats) -> float:
    """What a mistake leaves of the app's error, both as rms over all images and classes."""
    error = np.sqrt(np.mean((part.have - _as(part.kind, part.logits)) ** 2))
    left = np.sqrt(np.mean((part.have - would) ** 2))
    return float(left / error) if error > 0 else float("inf")


def _output_suspects(part: _Given) -> list[Suspect]:
    found = []
    for name, mistake in OUTPUT_MISTAKES.items():
        make = mistake.logits if part.kind == "logits" else mistake.probabilities
        if make is not None:
            residual = _residual(part, make(part.logits))
            found.append(Suspect(name=name, cause=mistake.cause, residual=residual))
    return found


def _order_suspects(part: _Given, labels: Sequence[str]) -> list[Suspect]:
    """The right numbers in another order of classes, or of images."""
    want = _as(part.kind, part.logits)
    found = []
    if len(part.rows) > 1:
        if (classes := order_of_classes(part.have, want, part.noise)) is not None:
            residual = _residual(part, want[:, classes])
            told = order_told(classes, labels) if residual <= _EXPLAINS else ""
            cause = "the right numbers, but the classes are in another order"
            cause = f"{cause}: {told}" if told else cause
            found.append(Suspect(name=_OTHER_CLASSES, cause=cause, residual=residual))
        images = nearest(part.have, want)
        found.append(
            Suspect(
                name=_OTHER_IMAGES,
                cause="the outputs belong to other images (a buffer or batch index mixed up)",
                residual=_residual(part, want[images]),
            )
        )
    return found


def _input_suspects(
    part: _Given, images: Sequence[Pixels], p: Preprocessing, network: Network
) -> list[Suspect]:
    """What the network makes of what every mistake would feed it, one mistake after the other."""
    makes = {name: mistake.make for name, mistake in INPUT_MISTAKES.items()}
    names = [name for name, make in makes.items() if make(images[0], p) is not None]
    # All at once would take 3.5 GB at 448 pixels.
    blocks = (_block(makes[name], images, p) for name in names)
    found = []
    for name, logits in zip(names, network(blocks, len(names) * len(images)), strict=True):
        residual = _residual(part, _as(part.kind, logits))
        found.append(Suspect(name=name, cause=INPUT_MISTAKES[name].cause, residual=residual))
    return found


def _block(make: Make, images: Sequence[Pixels], p: Preprocessing) -> Floats:
    return np.concatenate([x for image in images if (x := make(image, p)) is not None])
