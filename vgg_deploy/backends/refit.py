"""Weights for a plan that was built without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact
from vgg_deploy.cuda import Driver
from vgg_deploy.errors import StaleEngine
from vgg_deploy.files import sha256_of
from vgg_deploy.trt.failure import build_failure
from vgg_deploy.trt.flavour import Library
from vgg_deploy.trt.log import Log
from vgg_deploy.trt.match import ONNX, rebuild_command

_NAMED = 3  # missing weights that an error names


def refit(
    library: Library,
    keeper: Any,
    engine: Any,
    artifact: Artifact,
    root: Path,
    log: Log,
    driver: Driver,
) -> None:
    """Give a plan its weights from the ONNX file it was built from, and from no other."""
    path = root / artifact.made_by[ONNX]
    again = f"build again: {rebuild_command(artifact, root)}"
    if not path.is_file() or sha256_of(path) != artifact.parent:
        raise StaleEngine(
            f"{artifact.path} has no weights, and {path} is not the file it was built from",
            f"restore it, or {again}",
        )
    refitter = library.make("Refitter", engine, keeper)
    reader = library.make("OnnxParserRefitter", refitter, keeper) if refitter else None
    if reader and reader.refit_from_file(str(path)) and refitter.refit_cuda_engine():
        return
    if reader:
        _keep_reasons(log, reader, refitter)
    doing = f"put the weights of {path.name} into {artifact.path}"
    raise build_failure(log, doing, driver, again)


def _keep_reasons(log: Log, reader: Any, refitter: Any) -> None:
    """What is not in the log: the parser's errors and the names of what is missing."""
    for index in range(reader.num_errors):
        log.keep("ERROR", reader.get_error(index).desc())
    if missing := list(refitter.get_missing_weights()):
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        log.keep("ERROR", f"no weights for {', '.join(missing[:_NAMED])}{more}")
