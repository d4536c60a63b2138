"""What a stored verdict says of a stored timing: worked out when both are read, kept in neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vgg_deploy.environment import PACKAGES, Environment
from vgg_deploy.results import BenchReport, Subject, VerifyReport

NOT_VERIFIED = "not verified: run vgg-deploy verify first"
ELSEWHERE = "verified with other versions or on another machine"
_VERDICT = "verify: "
_OURS = "vgg-deploy"
_ORT = ("onnxruntime", "onnxruntime-gpu")  # one module: a build of another name is the first
_TRT = ("tensorrt", "tensorrt-cu13-bindings", "cuda-bindings")
# Distributions that decide what a backend computes, by the start of its name; the first counts.
_LIBRARIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("torch", ("torch",)),
    ("aoti", ("torch",)),
    ("openvino", ("openvino",)),
    ("ort-cpu", _ORT),
    ("ort-cuda", _ORT),
    ("ort-trt", (*_ORT, *_TRT)),
    ("trt-rtx", ("tensorrt-rtx-cu13-bindings", "cuda-bindings")),
    ("trt", _TRT),
)


def with_verdicts(report: BenchReport, verify: VerifyReport | None) -> BenchReport:
    """Timings and comparisons with the marks that ``verify``, read now, gives them.

    Marks of verdicts that older results hold are dropped: verify may have judged the file since.
    """
    here = report.environment
    rows = tuple(
        replace(row, marks=_now((row.subject,), row.marks, here, verify))
        if row.status == "measured"
        else row
        for row in report.rows
    )
    contests = tuple(
        replace(one, marks=_now(one.subjects, one.marks, here, verify)) for one in report.contests
    )
    return replace(report, rows=rows, contests=contests)


def without_verdicts(report: BenchReport) -> BenchReport:
    """Timings with the marks of their own only, where nobody can tell what verify says."""
    rows = tuple(replace(row, marks=own_marks(row.marks)) for row in report.rows)
    return replace(report, rows=rows)


def own_marks(marks: Iterable[str]) -> tuple[str, ...]:
    """The rules that a measurement itself breaks, without what verify had said."""
    return tuple(mark for mark in marks if not is_verdict(mark))


def is_verdict(mark: str) -> bool:
    """Whether a mark says what verify found, not how the timing went."""
    return mark.startswith((NOT_VERIFIED, ELSEWHERE, _VERDICT))


def is_refusal(mark: str) -> bool:
    """Whether a mark says that verify ran the file and did not find it equivalent."""
    return mark.startswith(_VERDICT)


def verdict_mark(subject: Subject, verify: VerifyReport | None, here: Environment) -> str:
    """What keeps a subject from counting as verified where ``here`` is; empty if nothing does."""
    key = subject.backend, subject.sha256
    rows = (
        [r for r in verify.rows if (r.subject.backend, r.subject.sha256) == key] if verify else []
    )
    if verify is None or not rows or rows[-1].verdict == "skipped":
        return NOT_VERIFIED
    row = rows[-1]
    if row.verdict != "equivalent":
        return f"{_VERDICT}{row.verdict}, {row.reason}"
    if said := difference(subject, verify.environment, here):
        return f"{ELSEWHERE}: {said}; verify again"
    return ""


def difference(subject: Subject, there: Environment, here: Environment) -> str:
    """The first thing that a subject's answers depend on and that is not the same; or empty."""
    for name, one, other in _deciding(subject, there, here):
        if one != other:
            return f"{name} {_text(one)}, not {_text(other)}"
    return ""


def _deciding(
    subject: Subject, there: Environment, here: Environment
) -> Iterator[tuple[str, object, object]]:
    hardware = ("gpu", "driver") if subject.device == "cuda" else ("cpu", "cpu_flags")
    for name in ("system", *hardware):
        yield name, getattr(there, name), getattr(here, name)
    for name in (*libraries_of(subject.backend), _OURS):
        yield name, there.versions.get(name), here.versions.get(name)


def libraries_of(backend: str) -> tuple[str, ...]:
    """Distributions whose versions decide what a backend computes; all of an unknown one's."""
    return next((names for start, names in _LIBRARIES if backend.startswith(start)), PACKAGES)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(value)
    return str(value) if value else "none"


def _now(
    subjects: Iterable[Subject],
    marks: Iterable[str],
    here: Environment,
    verify: VerifyReport | None,
) -> tuple[str, ...]:
    found = dict.fromkeys(verdict_mark(subject, verify, here) for subject in subjects)
    return (*filter(None, found), *own_marks(marks))
