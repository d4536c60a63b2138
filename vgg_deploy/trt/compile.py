"""One run of TensorRT: an ONNX file in, a plan and what it computes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact
from vgg_deploy.environment import now
from vgg_deploy.errors import VggDeployError, first_line
from vgg_deploy.trt.config import make_config
from vgg_deploy.trt.failure import build_failure, explained, given, parse_failure, reason, start
from vgg_deploy.trt.interrupt import Signals
from vgg_deploy.trt.layers import EngineNotes, Layer, Source, from_inspector, from_log
from vgg_deploy.trt.log import Log, logger
from vgg_deploy.trt.notes import product_names
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place
from vgg_deploy.trt.progress import Kernels, Phases, Progress, monitor
from vgg_deploy.trt.timing_cache import timing_cache
from vgg_deploy.trt.weights import as_read_by


def compile_plan(
    onnx_path: Path, onnx: Artifact, options: BuildOptions, place: Place, progress: Progress
) -> tuple[Any, Callable[[str], EngineNotes]]:
    """The plan's bytes, and a function that completes its notes with a digest."""
    log = Log()
    signals = Signals(log)
    try:
        with explained(log, _doing(onnx_path, place), place.driver):
            built = _built(onnx_path, onnx, options, place, progress, log, signals)
    finally:  # whatever else went wrong: somebody wanted an end
        signals.deliver()
    plan, seconds, (layers, source), products = built

    def notes(digest: str) -> EngineNotes:
        return EngineNotes(
            sha256=digest,
            made_at=now(),
            seconds=round(seconds, 3),
            source=source,
            layers=layers,
            warnings=tuple(log.warnings),
            products=products,
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
    signals: Signals,
) -> tuple[Any, float, tuple[tuple[Layer, ...], Source], tuple[str, ...]]:
    """The plan's bytes, the seconds it took, its layers and the ONNX file's products."""
    library = place.library
    title = f"{library.traits.label} {options.precision}"
    progress.begin(title)
    keeper = logger(library.module, log)
    with signals.held():
        builder, network, parser, products = _parsed(onnx_path, keeper, place, log)
        config = make_config(builder, onnx_path, onnx, options, place)
    signals.deliver()
    phases = Phases(title, progress, log)
    if (watching := monitor(library.module, phases)) is not None:
        config.progress_monitor = watching
    else:
        log.timed = Kernels(title, progress, products).timed
    cache: AbstractContextManager[None] = nullcontext()
    if library.traits.timing_cache and place.gpu:
        cache = timing_cache(library, config, place.gpu, progress)
    with cache, signals.held():
        began = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - began
    signals.deliver()
    if plan is None:
        raise build_failure(log, _doing(onnx_path, place), place.driver)
    del parser  # until here: the network may refer to what it holds
    with signals.held():
        return plan, seconds, _layers(keeper, plan, log, options, place, progress), products


def _parsed(
    onnx_path: Path, keeper: Any, place: Place, log: Log
) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """The builder, the network, the parser that it needs to live, and the file's products."""
    library = place.library
    builder = start(library, "Builder", keeper, log, place.driver)
    flags = library.flags("NetworkDefinitionCreationFlag", library.traits.network_flags)
    network = given(builder.create_network(flags), "network")
    parser = given(library.make("OnnxParser", network, keeper), "parser")
    content = as_read_by(library.traits, onnx_path.read_bytes())
    if not parser.parse(content):
        raise parse_failure(parser, onnx_path.name, content, library.traits.label)
    return builder, network, parser, product_names(content)


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
            json_format = place.library.module.LayerInformationFormat.JSON
            # no name for the inspector: that of 8.6 does not keep its engine, which must outlive it
            text = engine.create_engine_inspector().get_engine_information(json_format)
            return from_inspector(text, place.library.traits), "engine inspector"
        why = reason(log, place.driver)
    except VggDeployError as error:
        why = error.cause
    except Exception as error:  # no inspector, or what a binding raises
        why = first_line(error)
    if place.gpu:
        said = f"the new engine could not {doing}: {why}"
        log.keep("WARNING", said)  # into the notes: what is said on the way is seen once
        progress.say(said)
    return from_log(log.layers), "builder log"


def _opened(keeper: Any, plan: Any, options: BuildOptions, place: Place) -> Any:
    """The engine, or None without its GPU and where the library refuses."""
    if not place.gpu or (runtime := place.library.make("Runtime", keeper)) is None:
        return None
    if options.version_compatible:
        runtime.engine_host_code_allowed = True  # its lean runtime is part of the plan
    return runtime.deserialize_cuda_engine(plan)
