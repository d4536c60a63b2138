"""The verdict on outputs that a foreign app wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vgg_deploy.errors import RefusedInput, counted
from vgg_deploy.golden import (
    AppOutput,
    AppResults,
    GoldenImage,
    GoldenIndex,
    Judged,
    Selfcheck,
    blind_passes,
    refuse_vacuous,
)
from vgg_deploy.verify.mistakes import Floats


def judge_results(index: GoldenIndex, results: AppResults) -> Selfcheck:
    """Compare by the rules of docs/golden.md; the cause is looked for elsewhere.

    Raises ``RefusedInput`` for images that are not in the index, an image without any output, or
    where an answer that ignores the image would pass.
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
        reasons.append(f"{_counted(len(have), kind)} for {counted(len(want), 'class', 'classes')}")
        return None
    values = as_array(have)
    if not np.isfinite(values).all():
        reasons.append(f"not finite: {_counted(int((~np.isfinite(values)).sum()), kind)}")
        return None
    largest = float(np.abs(values - np.array(want)).max())
    if largest > bound:
        reasons.append(f"{kind} differ by {largest:.3g}, more than {bound:.3g}")
    return largest


def _counted(number: int, kind: str) -> str:
    return counted(number, {"logits": "logit"}.get(kind, "probability"), kind)


def _first(values: Sequence[float | None]) -> int:
    array = as_array(values)
    return int(np.argmax(np.where(np.isfinite(array), array, -np.inf)))


def as_array(values: Sequence[float | None]) -> Floats:
    """Numbers as an app gave them; null is NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
