"""What a check of a machine has found in each Python, in the words of doctor or of a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vgg_deploy.doctor import RTX_BUILDER

if TYPE_CHECKING:
    from vgg_deploy.pipeline.machine_steps import Done, Kind, Options

TRT_BACKENDS = {"trt": "tensorrt", "trt-rtx": "tensorrt-rtx"}


def usable_backends(options: Options, found: Sequence[Done]) -> dict[str, list[str]]:
    """Backends of the wanted device by the Python that has them; TensorRT's only in its own."""
    usable: dict[str, list[str]] = {}
    for python in options.pythons:
        for row in _rows(python, found):
            own = options.trt_python if row["name"] in TRT_BACKENDS else options.python
            on_device = row["detail"].endswith(f" on {options.device}")
            wanted = not options.backends or row["name"] in options.backends
            if row["usable"] and on_device and wanted and python == own:
                usable.setdefault(python, []).append(row["name"])
    return usable


def unusable_backends(options: Options, found: Sequence[Done]) -> dict[str, str]:
    """Why a backend that was asked for by name does not run, in the words of its own Python."""
    usable = {name for names in usable_backends(options, found).values() for name in names}
    reasons = {}
    for name in dict.fromkeys(options.backends):
        if name not in usable:
            python = options.trt_python if name in TRT_BACKENDS else options.python
            row = next((row for row in _rows(python, found) if row["name"] == name), None)
            reasons[name] = _why_not(row, python, options)
    return reasons


def _why_not(row: Mapping[str, Any] | None, python: str, options: Options) -> str:
    if row is None:
        return f"{python} tells of no such backend"
    if row["usable"]:
        return f"{row['detail']}; not on {options.device}"
    return f"{row['detail']}; {row['remedy']}"


def has_rtx_builder(python: str, found: Sequence[Done]) -> bool:
    """Whether TensorRT-RTX can build in a Python, for which it needs no GPU."""
    others = doctor_in(python, found).get("others", ())
    return any(row["name"] == RTX_BUILDER and row["usable"] for row in others)


def _rows(python: str, found: Sequence[Done]) -> list[dict[str, Any]]:
    """What doctor says of each backend, or each backend's own probe where doctor gave nothing."""
    if whole := doctor_in(python, found):
        rows: list[dict[str, Any]] = whole.get("backends", [])
        return rows
    probes = [d for d in found if d.step.kind == "probe" and d.step.python == python]
    return [done.answer["backend"] for done in probes if done.answer]


def judge_in(python: str, found: Sequence[Done]) -> Kind:
    """What can judge a backend in a Python: the float64 reference needs torch.

    That it is installed tells less than that it can be imported: PYTHONPATH may hold that of
    another Python.
    """
    usable = {row["name"]: row["usable"] for row in _rows(python, found)}
    return "verify" if usable.get("torch", "torch" in versions_of(python, found)) else "golden"


def versions_of(python: str, found: Sequence[Done]) -> Mapping[str, str]:
    """Versions of the packages in a Python, as doctor or a probe found them."""
    answers = [d.answer for d in found if d.step.python == python and d.answer
               and d.step.kind in ("doctor", "probe")]  # fmt: skip
    versions: Mapping[str, str] = {}
    for answer in answers:
        versions = versions or answer.get("environment", {}).get("versions", {})
    return versions


def doctor_in(python: str, found: Sequence[Done]) -> dict[str, Any]:
    """What doctor said in a Python; nothing where it was ended."""
    for done in found:
        if done.step.kind == "doctor" and done.step.python == python:
            return done.answer or {}
    return {}
