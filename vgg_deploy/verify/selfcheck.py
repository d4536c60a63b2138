"""The verdict on outputs that a foreign app wrote, and the mistake that explains them best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.errors import RefusedInput
from vgg_deploy.golden import (
    AppOutput,
    AppResults,
    GoldenImage,
    GoldenIndex,
    Judged,
    Selfcheck,
    Suspect,
    blind_passes,
    refuse_vacuous,
)
from vgg_deploy.spec import Preprocessing
from vgg_deploy.verify.compare import softmax
from vgg_deploy.verify.mistakes import INPUT_MISTAKES, OUTPUT_MISTAKES, Floats, Make, Pixels

# Blocks [N, C, S, S], and how many images they hold in all, to logits [N, classes] of each.
Network = Callable[[Iterable[Floats], int], Iterable[Floats]]
_EXPLAINS = 0.2  # of the error may be left for a mistake to count as the cause
_SHOWN = 3
_OTHER_CLASSES, _OTHER_IMAGES = "classes-reordered", "images-mixed-up"


@dataclass(frozen=True)
class _Given:
    """Finite outputs of the app beside the reference, image by image: ``[N, classes]``."""

    kind: str  # "logits" or "probabilities"
    rows: Sequence[int]  # into the index
    have: Floats
    logits: Floats  # the reference's


def judge_results(index: GoldenIndex, results: AppResults) -> Selfcheck:
    """Compare by the rules of docs/golden.md; the cause is looked for elsewhere.

    Raises ``RefusedInput`` for images that are not in the index, a precision it has no bound
    for, an image without any output, or where an answer that ignores the image would pass.
    """
    _refuse_unfit(index, results)
    refuse_vacuous(index, results.precision)
    _refuse_without_logits(index, results)
    by_name = {output.name: output for output in results.images}
    judged = tuple(
        _judged(image, by_name.get(image.name), index, results) for image in index.images
    )
    bad = [one for one in judged if one.reason]
    reason = ""
    if bad:
        reason = f"{len(bad)} of {len(judged)} images; first: {bad[0].image}, {bad[0].reason}"
    return Selfcheck(
        app=results.app,
        precision=results.precision,
        verdict="different" if bad else "equivalent",
        reason=reason,
        images=judged,
    )


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
    if not wrong:  # what is missing or not finite has no pattern
        return found
    suspects: list[Suspect] = []
    for part in wrong:
        suspects += _output_suspects(part) + _order_suspects(part)
    images = [pixels(index.images[row]) for row in wrong[0].rows]
    suspects += _input_suspects(wrong[0], images, index.preprocessing, network)
    best = {s.name: s for s in sorted(suspects, key=lambda s: -s.residual)}  # the last one stays
    ordered = sorted(best.values(), key=lambda s: s.residual)[:_SHOWN]
    explained = bool(ordered) and ordered[0].residual <= _EXPLAINS
    within = None if explained else _coarser(index, results)
    return replace(found, suspects=tuple(ordered), explained=explained, within=within)


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


def _refuse_unfit(index: GoldenIndex, results: AppResults) -> None:
    known = {image.name for image in index.images}
    names = [output.name for output in results.images]
    if unknown := [name for name in names if name not in known]:
        raise RefusedInput(
            f"the results name an image {unknown[0]!r} that the golden vectors do not have",
            "use the names of golden/index.json of the same bundle",
        )
    if len(set(names)) < len(names):
        raise RefusedInput("the results name an image twice", "give every image once")
    if not names:
        raise RefusedInput("the results hold no image", "run every image of golden/index.json")
    if results.precision not in index.tolerances:
        raise RefusedInput(
            f"the golden vectors have no bound for {results.precision}",
            f"use one of {', '.join(index.tolerances)}",
        )
    for output in results.images:
        if output.logits is None and output.probabilities is None:
            raise RefusedInput(
                f"the results have neither logits nor probabilities for {output.name}",
                "write at least one of them for every image",
            )


def _refuse_without_logits(index: GoldenIndex, results: AppResults) -> None:
    """Probabilities lie between 0 and 1: a wide bound on them holds everything."""
    alone = next((output.name for output in results.images if output.logits is None), None)
    probabilities = np.array([image.probabilities for image in index.images])
    bound = index.tolerances[results.precision].probabilities
    if alone is not None and blind_passes(probabilities, bound):
        raise RefusedInput(
            f"the results hold only probabilities for {alone}, whose bound at {results.precision}, "
            f"{bound:.2g}, would pass an answer that ignores the image",
            "write the logits, too",
        )


def _judged(
    image: GoldenImage, output: AppOutput | None, index: GoldenIndex, results: AppResults
) -> Judged:
    if output is None:
        return Judged(
            image=image.name, logits=None, probabilities=None, top1_ok=False, reason="not given"
        )
    bound = index.tolerances[results.precision]
    reasons: list[str] = []
    logits = _difference("logits", output.logits, image.logits, bound.logits, reasons)
    probabilities = _difference(
        "probabilities", output.probabilities, image.probabilities, bound.probabilities, reasons
    )
    ranked = output.logits if output.logits is not None else output.probabilities
    close = image.margin < 2 * bound.logits
    top1_ok = close or bool(ranked and _first(ranked) == image.top1)
    if not top1_ok:
        reasons.append(f"first class is not {image.top1}")
    return Judged(
        image=image.name,
        logits=logits,
        probabilities=probabilities,
        top1_ok=top1_ok,
        reason="; ".join(reasons),
    )


def _difference(
    kind: str,
    have: Sequence[float | None] | None,
    want: Sequence[float],
    bound: float,
    reasons: list[str],
) -> float | None:
    """Largest difference; what is wrong is added to ``reasons``."""
    if have is None:
        return None
    if len(have) != len(want):
        reasons.append(f"{len(have)} {kind} for {len(want)} classes")
        return None
    values = _array(have)
    if not np.isfinite(values).all():
        reasons.append(f"{int((~np.isfinite(values)).sum())} {kind} are not finite")
        return None
    largest = float(np.abs(values - np.array(want)).max())
    if largest > bound:
        reasons.append(f"{kind} differ by {largest:.3g}, more than {bound:.3g}")
    return largest


def _first(values: Sequence[float | None]) -> int:
    array = _array(values)
    return int(np.argmax(np.where(np.isfinite(array), array, -np.inf)))


def _array(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _given(kind: str, index: GoldenIndex, results: AppResults) -> _Given | None:
    by_name = {output.name: getattr(output, kind) for output in results.images}
    rows, have = [], []
    for row, image in enumerate(index.images):
        values = by_name.get(image.name)
        if values is None or len(values) != len(index.labels):
            continue
        array = _array(values)
        if np.isfinite(array).all():
            rows.append(row)
            have.append(array)
    if not rows:
        return None
    logits = np.array([index.images[row].logits for row in rows])
    return _Given(kind, rows, np.array(have), logits)


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


def _order_suspects(part: _Given) -> list[Suspect]:
    """The right numbers in another order of classes, or of images."""
    want = _as(part.kind, part.logits)
    found = []
    if len(part.rows) > 1:
        classes = _matched(part.have.T, want.T)
        would = want[:, classes]
        if len(set(classes)) == len(classes):
            cause = "the right numbers, but the classes are in another order"
            found.append(Suspect(name=_OTHER_CLASSES, cause=cause, residual=_residual(part, would)))
        images = _matched(part.have, want)
        found.append(
            Suspect(
                name=_OTHER_IMAGES,
                cause="the outputs belong to other images (a buffer or batch index mixed up)",
                residual=_residual(part, want[images]),
            )
        )
    return found


def _matched(have: Floats, want: Floats) -> list[int]:
    """For each row of ``have`` the nearest row of ``want``."""
    return [int(np.argmin(((want - row) ** 2).sum(axis=1))) for row in have]


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
