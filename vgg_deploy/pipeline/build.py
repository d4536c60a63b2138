"""Build engines of a bundle: every precision asked for, for every GPU asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vgg_deploy.artifact import FLAVOURS, Artifact, Flavour, Precision
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import (
    BackendNotAvailable,
    RefusedInput,
    VggDeployError,
    unknown_choice,
)
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.trt.build import build_engine
from vgg_deploy.trt.layers import EngineNotes
from vgg_deploy.trt.match import settings_of
from vgg_deploy.trt.notes import read_notes
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place, find_place

# What is tried in turn where nobody said which: 8.9 is Ada (RTX 40, L4), which
# TensorRT-RTX builds every precision for.
_WAYS = (
    BuildOptions(flavour="tensorrt"),
    BuildOptions(flavour="tensorrt_rtx"),
    BuildOptions(flavour="tensorrt_rtx", compute_capability="8.9"),
)


@dataclass(frozen=True, kw_only=True)
class Built:
    """One engine that was wanted: made, kept, or why not."""

    precision: Precision
    compute_capability: str | None
    engine: Artifact | None = None
    notes: EngineNotes | None = None
    reused: bool = False
    replaced: str = ""  # settings of the engine that had this name, where they were others
    reason: str = ""  # empty unless it failed


def flavour_of(text: str) -> Flavour:
    """``"tensorrt-rtx"`` or ``"tensorrt_rtx"``; ``UsageError`` with the nearest name otherwise."""
    name = text.replace("-", "_")
    if name not in FLAVOURS:
        raise unknown_choice("flavour", text, [known.replace("_", "-") for known in FLAVOURS])
    return name


def build_bundle(
    bundle: Bundle,
    options: BuildOptions,
    precisions: Sequence[Precision] = (),
    capabilities: Sequence[str] = (),
    watch: Watcher | None = None,
) -> tuple[list[Built], VggDeployError | None]:
    """Build ``options`` for each precision and compute capability; what is valid is kept.

    One that fails does not stop the others. Returns a row for each, and the first error.
    """
    watch = watch or Silent()
    wanted = [
        replace(options, precision=precision, compute_capability=capability)
        for precision in dict.fromkeys(precisions or (options.precision,))
        for capability in dict.fromkeys(capabilities or (options.compute_capability,))
    ]
    done: list[Built] = []
    first: VggDeployError | None = None
    for each in wanted:
        row = Built(precision=each.precision, compute_capability=each.compute_capability)
        try:
            before = open_bundle(bundle.root).artifacts
            bundle, engine, reused = build_engine(bundle, each, watch)
            row = replace(row, engine=engine, reused=reused, notes=read_notes(bundle, engine))
            row = replace(row, replaced=_replaced(before, engine))
        except VggDeployError as error:
            row, first = replace(row, reason=error.cause), first or error
        watch.say(_line(row))
        done.append(row)
    return done, first


def _replaced(before: Sequence[Artifact], engine: Artifact) -> str:
    """Settings of the engine that had this name, where they were not the same."""
    old = next((a for a in before if a.path == engine.path), engine)
    settings = settings_of(old)
    return settings if settings != settings_of(engine) else ""


def build_here(bundle: Bundle, precisions: Sequence[Precision], watch: Watcher) -> Bundle:
    """Engines with the TensorRT that is here, for the GPU that is here.

    Without a GPU TensorRT-RTX still builds, for one that is named; where nothing is built, a line
    says why. An engine that cannot be built is the error of ``build_engine``.
    """
    reasons = []
    for options in _WAYS:
        try:
            place = find_place(options)
        except BackendNotAvailable as error:
            reasons.append(f"{error.cause}; {error.remedy}")
            continue
        if _runs_here(place):
            _, error_met = build_bundle(bundle, options, precisions, (), watch)
            if error_met:
                raise error_met
            return open_bundle(bundle.root)
    watch.say(f"skipped: engines: {reasons[0]}")
    return bundle


def _runs_here(place: Place) -> bool:
    """Whether the GPU that is here would run an engine; with none here, one elsewhere may."""
    gpu = place.gpu
    return gpu is None or place.library.traits.knows(gpu.compute_capability)


def inspect_engine(bundle: Bundle, name: str) -> tuple[Artifact, EngineNotes]:
    """An engine of the bundle by its file name, and the layers it was built with.

    Raises ``RefusedInput`` for a plan that the manifest does not hold, ``DigestMismatch`` for one
    that was changed.
    """
    engine = bundle.named(name)
    if engine.format != "engine":
        raise RefusedInput(f"{name} is no engine but {engine.format}", "name a .plan file")
    bundle.check([engine])
    return engine, read_notes(bundle, engine)


def _line(row: Built) -> str:
    if row.engine is None or row.notes is None:
        where = f" for {row.compute_capability}" if row.compute_capability else ""
        return f"build: {row.precision}{where} failed: {row.reason}"
    if row.reused:
        return f"build: {row.engine.path} reused, still valid"
    megabytes = row.engine.size_bytes / 1e6
    old = f"; replaced the engine with {row.replaced}" if row.replaced else ""
    return f"build: {row.engine.path} made in {row.notes.seconds:.1f} s, {megabytes:,.1f} MB{old}"
