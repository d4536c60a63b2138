"""How verify was asked, where that changes what its verdict means."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy.results import Comparison, VerifyReport

_CHOOSING = ("backend", "format", "precision")  # options of verify that leave something out


def is_partial(report: VerifyReport) -> bool:
    """Whether only some backends, formats or precisions were asked for, by name."""
    return bool(report.options.keys() & set(_CHOOSING))


def qualifying(report: VerifyReport, proven: Sequence[Comparison]) -> list[str]:
    """A sentence for each thing that makes the verdict narrower than it looks."""
    told = report.options
    asked = [told[key] for key in _CHOOSING if key in told]
    said = [f"Verify was asked for {' in '.join(asked)} only; nothing else was looked at."]
    remarks = said if asked else []
    if points := told.get("max_top1_drop"):
        remarks.append(
            f"Up to {points} points of top-1 accuracy were allowed to be lost "
            f"(--max-top1-drop {points}), instead of each precision’s own budget."
        )
    blind = [row.subject.id for row in proven if row.accuracy is None]
    if blind:
        whose = "" if len(blind) == len(proven) else f" for {', '.join(blind)}"
        why = ": --no-accuracy was given" if told.get("accuracy") == "off" else ""
        remarks.append(f"Accuracy was not compared{whose}{why}.")
    return remarks
