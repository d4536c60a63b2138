"""``--locate``: in which stage of the network a file that differs begins to differ."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Backend
from vgg_deploy.backends.inner import inner_stages
from vgg_deploy.backends.reference import stage_names, stages
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import VggDeployError
from vgg_deploy.pipeline.chain import Ran
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.results import Comparison, Location
from vgg_deploy.verify import onnx_stages
from vgg_deploy.verify.inputs import Inputs
from vgg_deploy.verify.locate import LOCATE_IMAGES, locate
from vgg_deploy.verify.runs import Indices

_CUT = "stage.onnx"
_ONNX = ("onnx", "embedded")
_OPAQUE: Mapping[str, str] = {
    "aoti": "an AOTInductor package is compiled code without inner tensors",
    "engine": "an engine has no inner tensors; locate in the ONNX file that it was built from",
    "checkpoint": "the checkpoint is the reference itself; the backend computes it wrongly",
}


def located(
    row: Comparison, ran: Ran, bundle: Bundle, inputs: Inputs, watch: Watcher
) -> Comparison:
    """The row with its location; whatever breaks on the way becomes the location's note."""
    count = len(stage_names(bundle.card.spec))
    watch.begin(f"locate {row.subject.id}", count, "stages")
    try:
        found = _locate(row, ran.artifact, ran.backend, bundle, inputs, watch.advance)
    except VggDeployError as error:
        found = Location(stage=None, stages=(), note=error.cause)
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = Location(stage=None, stages=(), note=f"{type(error).__name__}: {text}")
    reason = row.reason
    if found.stage:
        reason += f"; it begins to diverge {found.note}"
    return replace(row, location=found, reason=reason)


def _locate(
    row: Comparison,
    artifact: Artifact,
    backend: Backend,
    bundle: Bundle,
    inputs: Inputs,
    told: Callable[[], object],
) -> Location:
    if note := _OPAQUE.get(artifact.format):
        return Location(stage=None, stages=(), note=note)
    chosen = _images(row, inputs, artifact)
    batch = inputs.batch[chosen]
    checkpoint = bundle.path(bundle.checkpoint)
    exact = stages(checkpoint, batch)
    precision = row.subject.precision
    eager = stages(checkpoint, batch, precision)
    names = stage_names(bundle.card.spec)
    with tempfile.TemporaryDirectory() as folder:
        if artifact.format in _ONNX:
            given = inputs.take(chosen, artifact.input)
            run = _onnx_runner(artifact, backend, bundle, given, Path(folder))
        else:
            run = inner_stages(artifact, bundle.path(artifact), batch, names).__getitem__

        def watched(name: str) -> Array:
            output = run(name)
            told()
            return output

        return locate(watched, exact, eager, precision)


def _images(row: Comparison, inputs: Inputs, artifact: Artifact) -> Indices:
    """The worst image first, then others that fit into one batch with it.

    Without a worst one the first that the file takes: pixels of another size are left out.
    """
    parts = inputs.parts(artifact.input)
    worst = inputs.names.index(row.worst.name) if row.worst else parts[0][0]
    part = next(p for p in parts if p[0] <= worst < p[1])
    others = [i for i in range(*part) if i != worst]
    fixed = artifact.input.shape[0]
    count = fixed if isinstance(fixed, int) else LOCATE_IMAGES
    return np.resize(np.array([worst, *others], dtype=np.intp), min(count, 1 + len(others)))


def _onnx_runner(
    artifact: Artifact, backend: Backend, bundle: Bundle, given: Array, folder: Path
) -> Callable[[str], Array]:
    """Cuts the file behind a stage and runs that part in the backend that is on trial."""
    model = onnx_stages.read(bundle.path(artifact))
    tensors = onnx_stages.stage_tensors(model, stage_names(bundle.card.spec))
    part = replace(artifact, path=PurePosixPath(_CUT))

    def run(stage: str) -> Array:
        onnx_stages.cut(model, tensors[stage], folder / _CUT)
        with backend.open(part, folder) as session:
            return session(given)

    return run
