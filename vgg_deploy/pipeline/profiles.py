"""Where the time of an ONNX file goes: ONNX Runtime's profile, by the network's layers."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy.backends.ort_profile import operator_times
from vgg_deploy.bench.layers import layer_timings
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import VggDeployError
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.pipeline.benchinput import make_input
from vgg_deploy.pipeline.cells import Cell
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.results import LayerProfile

PROFILED = "ort-cpu"
RUNS = 20


def profiles(
    bundle: Bundle, cells: Sequence[Cell], batch: int, watch: Watcher
) -> tuple[LayerProfile, ...]:
    """A profile of every ONNX file that ONNX Runtime runs here; one that cannot be had is said.

    An embedded file is left out: its resize and softmax belong to no layer of the network, and
    the others are those of the file it was made from.
    """
    layers = vgg_layers(bundle.card.spec)
    found = []
    for cell in cells:
        artifact = cell.artifact
        if cell.backend.name != PROFILED or artifact is None or cell.missing:
            continue
        if artifact.format != "onnx":
            continue
        watch.begin(f"layers of {cell.subject.id}", RUNS, "runs")
        try:
            given = make_input(bundle, batch, artifact)
            path = bundle.path(artifact)
            traces = operator_times(path, artifact.precision, given, RUNS, watch.advance)
            timings = layer_timings(layers, traces)
        except (VggDeployError, OSError, ValueError, MemoryError) as error:
            watch.say(f"bench: no profile of {cell.subject.id}: {error}")
            continue
        how = f"ONNX Runtime's profiler, {RUNS} runs"
        found.append(LayerProfile(subject=cell.subject, batch=batch, how=how, layers=timings))
    return tuple(found)
