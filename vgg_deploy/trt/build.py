"""ONNX in, plan out: one path for every flavour; what differs comes from the table.

The precision is the ONNX graph's (casts, Q/DQ); only TF32 is a builder's choice. The plan is a
plain plan that trtexec, Triton and C++ load; all that is known about it is in the manifest, and its
layers are beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact, Target
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.environment import now, versions
from vgg_deploy.errors import RefusedInput, UsageError, VggDeployError, first_line
from vgg_deploy.manifest import Draft, notes_path
from vgg_deploy.trt import match
from vgg_deploy.trt.config import capability_of, make_config, wanted_options
from vgg_deploy.trt.failure import build_failure, explained, given, parse_failure, reason, start
from vgg_deploy.trt.flavour import require_option
from vgg_deploy.trt.layers import EngineNotes, Layer, Source, from_inspector, from_log
from vgg_deploy.trt.log import Log, logger
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place, find_place
from vgg_deploy.trt.progress import Phases, Progress, monitor
from vgg_deploy.trt.timing_cache import timing_cache
from vgg_deploy.trt.weights import as_read_by

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
        if (valid := _valid(bundle, draft)) is not None:
            return bundle, valid, True
        bundle.check([onnx])
        plan, notes = _build(bundle.path(onnx), onnx, options, place, progress)
        bundle, engine = bundle.add(draft, lambda path: _write(path, plan))
        jsonio.save(notes_path(bundle.path(engine)), notes(engine.sha256))
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
            f"make it: vgg-deploy export {bundle.root} --format onnx --precision {wanted}",
        )
    return found


def _draft(onnx: Artifact, options: BuildOptions, place: Place) -> Draft:
    traits = place.library.traits
    if options.precision not in traits.precisions:
        raise UsageError(
            f"{traits.label} does not build {options.precision}",
            f"it builds {', '.join(sorted(traits.precisions))}",
        )
    for option in wanted_options(options):
        require_option(traits, option)
    gpu = place.gpu
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
    """The engine that is there, when a build would make the same; the driver may be another."""
    for engine in bundle.artifacts:
        if str(engine.path) != draft.name:
            continue
        same = dict(engine.made_by) | {match.DRIVER: ""} == dict(draft.made_by) | {match.DRIVER: ""}
        if same and engine.parent == draft.parent and engine.target == draft.target:
            return None if bundle.problem(engine) else engine
    return None


@contextmanager
def _alone(root: Path, progress: Progress) -> Iterator[None]:
    """One build at a time in a bundle: two would disturb each other's kernel timings."""
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=_NOTICE_S)
    except Timeout:
        progress.say("another build runs in this bundle; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(
    onnx_path: Path, onnx: Artifact, options: BuildOptions, place: Place, progress: Progress
) -> tuple[Any, Any]:
    """The plan's bytes, and a function that completes its notes with a digest."""
    log = Log()
    with explained(log, _doing(onnx_path, place), place.driver):
        plan, seconds, (layers, source) = _built(onnx_path, onnx, options, place, progress, log)

    def notes(digest: str) -> EngineNotes:
        return EngineNotes(
            sha256=digest,
            made_at=now(),
            seconds=round(seconds, 3),
            source=source,
            layers=layers,
            warnings=tuple(log.warnings),
        )

    return plan, notes


def _doing(onnx_path: Path, place: Place) -> str:
    return f"build {onnx_path.name} with {place.library.traits.label}"


def _built(
    onnx_path: Path,
    onnx: Artifact,
    options: BuildOptions,
    place: Place,
    progress: Progress,
    log: Log,
) -> tuple[Any, float, tuple[tuple[Layer, ...], Source]]:
    """The plan's bytes, the seconds it took and its layers."""
    library = place.library
    module = library.module
    title = f"{library.traits.label} {options.precision}"
    progress.begin(title)
    keeper = logger(module, log)
    builder = start(library, "Builder", keeper, log, place.driver)
    flags = library.flags("NetworkDefinitionCreationFlag", library.traits.network_flags)
    network = given(builder.create_network(flags), "network")
    parser = given(library.make("OnnxParser", network, keeper), "parser")
    content = as_read_by(library.traits, onnx_path.read_bytes())
    if not parser.parse(content):
        raise parse_failure(parser, onnx_path.name, content, library.traits.label)
    del content  # up to 2 GB; the parser has its own copy
    config = make_config(builder, onnx_path, onnx, options, place)
    phases = Phases(title, progress, log)
    if (watching := monitor(module, phases)) is not None:
        config.progress_monitor = watching
    cache = nullcontext()
    if library.traits.timing_cache and place.gpu:
        cache = timing_cache(library, config, place.gpu, progress)  # type: ignore[assignment]
    with cache:
        began = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - began
    if phases.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise build_failure(log, _doing(onnx_path, place), place.driver)
    return plan, seconds, _layers(keeper, plan, log, options, place, progress)


def _layers(
    keeper: Any, plan: Any, log: Log, options: BuildOptions, place: Place, progress: Progress
) -> tuple[tuple[Layer, ...], Source]:
    """Layers from the inspector where the engine opens here, else from the builder's log.

    The plan is finished and may have taken minutes: nothing that fails here costs it.
    """
    doing = "be opened to list its layers"
    try:
        engine = _opened(keeper, plan, options, place)
        if engine is not None:
            doing = "tell its layers"
            inspector = engine.create_engine_inspector()
            json_format = place.library.module.LayerInformationFormat.JSON
            text = inspector.get_engine_information(json_format)
            return from_inspector(text, place.library.traits), "engine inspector"
        why = reason(log, place.driver)
    except VggDeployError as error:
        why = error.cause
    except Exception as error:  # no inspector, or what a binding raises
        why = first_line(error)
    if place.gpu:
        progress.say(f"the new engine could not {doing}: {why}")
    return from_log(log.layers), "builder log"


def _opened(keeper: Any, plan: Any, options: BuildOptions, place: Place) -> Any:
    """The engine, or None without its GPU and where the library refuses."""
    if not place.gpu or (runtime := place.library.make("Runtime", keeper)) is None:
        return None
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # its lean runtime is part of the plan
    return runtime.deserialize_cuda_engine(plan)


def read_notes(bundle: Bundle, engine: Artifact) -> EngineNotes:
    """What was noted about an engine when it was built."""
    path = notes_path(bundle.path(engine))
    again = "build the engine again: " + match.rebuild_command(engine, bundle.root)
    if not path.is_file():
        raise RefusedInput(f"no layers of {engine.path} are stored ({path.name} is missing)", again)
    notes = jsonio.load(EngineNotes, path)
    if notes.sha256 != engine.sha256:
        raise RefusedInput(f"{path.name} describes another file than {engine.path}", again)
    return notes
