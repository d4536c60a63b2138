"""The matrix of artifact × backend: what can run, and why the rest cannot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from vgg_deploy import jsonio
from vgg_deploy.artifact import FORMATS, PRECISIONS, Artifact, Format, Precision
from vgg_deploy.backends import BACKENDS, get_backend, without_graph
from vgg_deploy.backends.base import Backend, Missing, Recasting, Selective
from vgg_deploy.bundle import Bundle
from vgg_deploy.cuda import TF32_VARIABLE
from vgg_deploy.environment import capture
from vgg_deploy.errors import (
    BackendNotAvailable,
    RefusedInput,
    StaleEngine,
    UsageError,
    VggDeployError,
    unknown_choice,
)
from vgg_deploy.files import word
from vgg_deploy.results import Subject


@dataclass(frozen=True)
class Cell:
    """One artifact in one backend; ``missing`` says why it cannot run."""

    backend: Backend
    artifact: Artifact | None
    missing: Missing | None

    @property
    def subject(self) -> Subject:
        """The cell as results name it; without an artifact the path is the wanted format."""
        artifact = self.artifact
        wanted = main_format(self.backend.formats)
        return Subject(
            artifact=str(artifact.path) if artifact else f"({wanted})",
            sha256=artifact.sha256 if artifact else "",
            size_bytes=artifact.size_bytes if artifact else 0,
            format=artifact.format if artifact else wanted,
            precision=precision_in(self.backend, self.artifact),
            backend=self.backend.name,
            device=self.backend.device,
        )

    @property
    def reason(self) -> str:
        """Why the cell is skipped, with the remedy; empty when it runs."""
        return f"{self.missing.reason}; {self.missing.remedy}" if self.missing else ""


def precision_in(backend: Backend, artifact: Artifact | None) -> Precision:
    """What a backend computes in: the file's precision, unless it recasts whatever it opens."""
    if isinstance(backend, Recasting):
        return backend.precision
    return artifact.precision if artifact else "fp32"


def without_cuda_graphs(cell: Cell) -> Cell:
    """The cell with a backend that launches each kernel itself, where it has that choice."""
    plain = without_graph(cell.backend)
    return cell if plain is cell.backend else replace(cell, backend=plain)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which cells are wanted; empty means all."""

    backends: tuple[str, ...] = ()
    formats: tuple[Format, ...] = ()
    precisions: tuple[Precision, ...] = ()


def main_format(formats: Collection[Format]) -> Format:
    """The format a backend is known by: the plain one where there is one."""
    return min(formats, key=lambda name: (name == "embedded", name))


def how_to_make(root: Path, format: Format) -> str:
    """The command that makes an artifact of a format."""
    if format == "engine":
        return f"make it: vgg-deploy build {word(root)}"
    options = "onnx --embedded" if format == "embedded" else format
    return f"make it: vgg-deploy export {word(root)} --format {options}"


def selection_of(
    backends: Sequence[str] | None,
    formats: Sequence[str] | None,
    precisions: Sequence[str] | None = None,
) -> Selection:
    """A selection from the command line's words; ``UsageError`` for an unknown one."""
    for name in formats or ():
        if name not in FORMATS:
            raise unknown_choice("format", name, FORMATS)
    for name in precisions or ():
        if name not in PRECISIONS:
            raise unknown_choice("precision", name, PRECISIONS)
    for name in backends or ():
        get_backend(name)
    return Selection(
        backends=tuple(dict.fromkeys(backends or ())),
        formats=cast("tuple[Format, ...]", tuple(dict.fromkeys(formats or ()))),
        precisions=cast("tuple[Precision, ...]", tuple(dict.fromkeys(precisions or ()))),
    )


def plan(bundle: Bundle, selection: Selection) -> tuple[Cell, ...]:
    """All wanted cells in the order of the backend table.

    Raises ``UsageError`` for an unknown name, for a backend that was asked for by name and opens
    no wanted file, and for a format or precision that none of those opens; ``BackendNotAvailable``
    for a named backend that cannot run, ``RefusedInput`` for what the bundle does not hold.
    """
    _check(bundle, selection)
    backends = [get_backend(n) for n in selection.backends] or _all_backends()
    _check_pairs(backends, selection)
    cells: list[Cell] = []
    for backend in dict.fromkeys(backends):
        cells += _cells(bundle, backend, selection)
    _check_precisions(bundle, cells, selection)
    able = {cell.backend.name for cell in cells if not cell.missing}
    for cell in cells:
        name = cell.backend.name
        if cell.missing and name in selection.backends and name not in able:
            raise _asked_for(cell, cell.missing)
    return tuple(cells)


def _all_backends() -> list[Backend]:
    """Every backend, without variants in other precisions that cannot run either.

    Such a row would repeat what the row it is a variant of says.
    """
    return [b for b in BACKENDS.values() if not (_is_variant(b) and b.probe())]


def _is_variant(backend: Backend) -> bool:
    return isinstance(backend, Recasting) and backend.variant_of is not None


def _asked_for(cell: Cell, missing: Missing) -> VggDeployError:
    """The error for a backend that was named on the command line and cannot run."""
    kind: type[VggDeployError] = RefusedInput if cell.artifact is None else BackendNotAvailable
    if cell.artifact and cell.artifact.format == "engine":
        kind = StaleEngine
    if cell.backend.probe():
        kind = BackendNotAvailable
    return kind(f"backend {cell.backend.name} cannot run: {missing.reason}", missing.remedy)


def _check(bundle: Bundle, selection: Selection) -> None:
    for name in selection.formats:
        if all(a.format != name for a in bundle.artifacts):
            raise RefusedInput(
                f"{bundle.root} holds no {name} artifact",
                how_to_make(bundle.root, name),
            )


def _check_pairs(backends: Sequence[Backend], selection: Selection) -> None:
    """Each backend that was named has a format to open, and each format a backend; or usage."""
    wanted = frozenset(selection.formats)
    for backend in backends if wanted and selection.backends else ():
        if not backend.formats & wanted:
            raise _no_pair(selection.formats, [backend.name])
    for format in selection.formats:
        if not any(format in backend.formats for backend in backends):
            raise _no_pair([format], selection.backends)


def _check_precisions(bundle: Bundle, cells: Sequence[Cell], selection: Selection) -> None:
    """Each precision that was asked for has a cell, and each backend that was named."""
    for name in selection.precisions:
        if any(cell.subject.precision == name for cell in cells):
            continue
        if any(artifact.precision == name for artifact in bundle.artifacts):
            unbuilt = _unbuilt(bundle, name, selection.backends)
            raise unbuilt or _no_pair([name], selection.backends, "--precision")
        if name == "tf32" and (unbuilt := _unbuilt(bundle, name, selection.backends)):
            raise unbuilt
        raise RefusedInput(f"{bundle.root} holds no {name} file", _how_to_get(bundle.root, name))
    for backend in selection.backends if selection.precisions else ():
        if all(cell.backend.name != backend for cell in cells):
            unbuilt = _unbuilt(bundle, selection.precisions[0], [backend])
            raise unbuilt or _no_pair(selection.precisions, [backend], "--precision")


def _unbuilt(
    bundle: Bundle, precision: Precision, backends: Sequence[str]
) -> VggDeployError | None:
    """The error for a backend of engines, which opens every precision once one is built."""
    for backend in map(get_backend, backends):
        if getattr(backend, "flavour", None):
            cause = f"the bundle holds no {precision} engine for it"
            remedy = f"{how_for(bundle, backend, 'engine')} --precision {precision}"
            lacking = backend.probe() or Missing(cause, remedy)
            return _asked_for(Cell(backend, None, lacking), lacking)
    return None


def _how_to_get(root: Path, precision: Precision) -> str:
    if precision == "tf32":  # no file is in it: some backends of a GPU compute so
        return "leave out --precision, or name a backend that computes in it: vgg-deploy doctor"
    return f"make it: vgg-deploy export {word(root)} --precision {precision}"


def _no_pair(kinds: Sequence[str], backends: Sequence[str], option: str = "--format") -> UsageError:
    return UsageError(
        f"no {' or '.join(kinds)} file is for {' or '.join(backends) or 'any backend here'}",
        f"leave out {option}, or name a backend that opens it: vgg-deploy doctor",
    )


def _cells(bundle: Bundle, backend: Backend, selection: Selection) -> list[Cell]:
    wanted = backend.formats & frozenset(selection.formats or FORMATS)
    if not wanted:
        return []
    missing = backend.probe()
    artifacts = [
        a
        for a in bundle.artifacts
        if a.format in wanted and is_for(backend, a) and _in_wanted(selection, backend, a)
    ]
    if not artifacts and selection.precisions:
        return []
    if not artifacts and missing is None:
        first = main_format(wanted)
        missing = Missing(
            f"the bundle holds no {first} artifact for it", how_for(bundle, backend, first)
        )
    if not artifacts:
        return [Cell(backend, None, missing)]
    return [Cell(backend, a, missing or refusal(bundle, backend, a)) for a in artifacts]


def _in_wanted(selection: Selection, backend: Backend, artifact: Artifact) -> bool:
    wanted = selection.precisions
    return not wanted or precision_in(backend, artifact) in wanted


def is_for(backend: Backend, artifact: Artifact) -> bool:
    """Engines of one TensorRT flavour are nothing to the backend of the other."""
    flavour = getattr(backend, "flavour", None)
    return artifact.target is None or artifact.target.flavour == flavour


def how_for(bundle: Bundle, backend: Backend, format: Format) -> str:
    """The command that makes what a backend opens."""
    flavour = getattr(backend, "flavour", None)
    if flavour:
        return (
            f"make it: vgg-deploy build {word(bundle.root)} --flavour {flavour.replace('_', '-')}"
        )
    return how_to_make(bundle.root, format)


def refusal(bundle: Bundle, backend: Backend, artifact: Artifact) -> Missing | None:
    """Why a backend that is usable here would not open this artifact, if it would not."""
    known = {a.sha256 for a in bundle.artifacts}
    if artifact.format == "engine" and artifact.parent not in known:
        return Missing(
            f"{artifact.path} was built from an ONNX file that is no longer in the bundle",
            how_for(bundle, backend, "engine"),
        )
    return backend.refuses(artifact) if isinstance(backend, Selective) else None


_DECIDING = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
_IF_SET = (TF32_VARIABLE,)  # of keys that were stored without them


def results_key(cells: Sequence[Cell], options: object, extra: Mapping[str, str]) -> str:
    """Digest of all that decides a result: files, cells, options, machine, versions, threads."""
    parts = [
        *(f"{c.subject.id} {c.subject.sha256} {c.reason}" for c in cells),
        jsonio.dumps(options, indent=None),
        jsonio.dumps(capture(), indent=None),
        *(f"{name}={os.environ.get(name, '')}" for name in _DECIDING),
        *(f"{name}={os.environ[name]}" for name in _IF_SET if os.environ.get(name)),
        *(f"{k}={v}" for k, v in sorted(extra.items())),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
