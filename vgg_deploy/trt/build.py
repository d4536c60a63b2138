"""ONNX in, plan out: one path for every flavour; what differs comes from the table.

The precision is the ONNX graph's (casts, Q/DQ); only TF32 is a builder's choice. The plan is a
plain plan that trtexec, Triton and C++ load; all that is known about it is in the manifest, and its
layers are beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vgg_deploy.artifact import Artifact, Target
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.environment import versions
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError, os_errors
from vgg_deploy.files import word
from vgg_deploy.manifest import Draft
from vgg_deploy.trt import match
from vgg_deploy.trt.compile import compile_plan
from vgg_deploy.trt.config import capability_of, wanted_options
from vgg_deploy.trt.flavour import require_option
from vgg_deploy.trt.notes import has_notes
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place, find_place
from vgg_deploy.trt.progress import Progress

NO_GPU = "none"
_LOCK = ".build.lock"
_NOTICE_S = 1.0


def build_engine(
    bundle: Bundle, options: BuildOptions, progress: Progress, place: Place | None = None
) -> tuple[Bundle, Artifact, bool]:
    """Build one engine from the bundle's ONNX file of that precision, or keep a valid one.

    Returns the bundle with the engine in it, the engine, and whether it was reused. Two builds in
    one bundle wait for each other; the second reuses what the first made.

    Raises ``UsageError`` for an option the flavour lacks, ``RefusedInput`` for a missing ONNX file
    or one that TensorRT refuses, ``BackendNotAvailable`` without the library or a GPU it needs,
    ``ResourceLimit`` when memory runs out, ``DigestMismatch`` for a changed ONNX file.
    """
    onnx = _source(bundle, options)
    place = place or find_place(options)
    draft = _draft(onnx, options, place)
    with _alone(bundle.root, progress):
        bundle = open_bundle(bundle.root)
        bundle.check([onnx])
        if (valid := _valid(bundle, draft)) is not None:
            return bundle, valid, True
        plan, notes = compile_plan(bundle.path(onnx), onnx, options, place, progress)
        bundle, engine = bundle.add(draft, lambda path: _write(path, plan), notes)
    return bundle, engine, False


def _write(path: Path, plan: Any) -> None:
    with path.open("wb") as file:
        file.write(plan)  # IHostMemory is a buffer: no second copy


def _source(bundle: Bundle, options: BuildOptions) -> Artifact:
    """The ONNX file of the wanted precision; TF32 reads the fp32 one."""
    wanted = "fp32" if options.precision == "tf32" else options.precision
    found = bundle.find("onnx", wanted)
    if found is None:
        raise RefusedInput(
            f"{bundle.root} holds no {wanted} ONNX file to build from",
            f"make it: vgg-deploy export {word(bundle.root)} --format onnx --precision {wanted}",
        )
    return found


def _draft(onnx: Artifact, options: BuildOptions, place: Place) -> Draft:
    traits = place.library.traits
    if options.precision not in traits.precisions:
        raise UsageError(
            f"{traits.label} does not build {options.precision}",
            f"it builds {', '.join(sorted(traits.precisions))}",
        )
    gpu = place.gpu
    for option in wanted_options(options):
        require_option(traits, option)
        if gpu is None and option in traits.on_gpu_only:
            raise BackendNotAvailable(
                f"{traits.label} needs a GPU to build with --{option}",
                f"build on a machine with one, or without --{option}",
            )
    return Draft(
        format="engine",
        precision=options.precision,
        input=onnx.input,
        output=onnx.output,
        parent=onnx.sha256,
        target=Target(
            flavour=traits.flavour,
            version=place.library.version,
            compute_capability=capability_of(options, place),
            batches=tuple(profile.sizes for profile in options.profiles),
        ),
        made_by={
            **versions("vgg-deploy"),
            match.ONNX: str(onnx.path),
            match.GPU: gpu.name if gpu else NO_GPU,
            match.CUDA: gpu.cuda if gpu else NO_GPU,
            match.DRIVER: gpu.driver if gpu else NO_GPU,
            match.WORKSPACE: str(options.workspace or match.DEFAULT),
            match.LEVEL: _text(options.optimization_level),
            match.HARDWARE_COMPATIBLE: _yes(options.hardware_compatible),
            match.VERSION_COMPATIBLE: _yes(options.version_compatible),
            match.STRIP_WEIGHTS: _yes(options.strip_weights),
            "tf32": _yes(options.precision == "tf32"),
        },
    )


def _text(level: int | None) -> str:
    return match.DEFAULT if level is None else str(level)


def _yes(value: bool) -> str:
    return match.YES if value else match.NO


def _valid(bundle: Bundle, draft: Draft) -> Artifact | None:
    """The engine that is there, when a build would make the same; the driver may be another.

    Without its notes nobody could tell what it computes: then it is built again.
    """
    for engine in bundle.artifacts:
        if str(engine.path) != draft.name:
            continue
        same = dict(engine.made_by) | {match.DRIVER: ""} == dict(draft.made_by) | {match.DRIVER: ""}
        if same and engine.parent == draft.parent and engine.target == draft.target:
            return engine if has_notes(bundle, engine) and not bundle.problem(engine) else None
    return None


@contextmanager
def _alone(root: Path, progress: Progress) -> Iterator[None]:
    """One build at a time in a bundle: two would disturb each other's kernel timings."""
    lock = FileLock(root / _LOCK)
    with os_errors(f"write to {root}"), suppress(Timeout):
        lock.acquire(timeout=_NOTICE_S)
    if not lock.is_locked:
        progress.say("another build runs in this bundle; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
