"""The real TensorRT-RTX parser and builder, which work without a GPU: is a file accepted?"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

PROFILE = (1, 2, 8)  # smallest, best and largest batch


def _library() -> Any:
    try:
        return importlib.import_module("tensorrt_rtx")
    except ModuleNotFoundError:  # its two parts, installed without the package that joins them
        return pytest.importorskip("tensorrt_rtx_bindings", reason="pip install vgg-deploy[rtx]")


def _logger(trt: Any, lines: list[str]) -> Any:
    class Lines(trt.ILogger):  # type: ignore[misc]
        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                lines.append(message)

    return Lines()


def build(path: Path, capability: str) -> tuple[bytes | None, list[str]]:
    """Serialized engine of an ONNX file for one GPU such as ``"SM89"``, and what was said.

    None when the parser or the builder refuses it.
    """
    trt, lines = _library(), list[str]()
    logger = _logger(trt, lines)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        return None, [*lines, *(parser.get_error(i).desc() for i in range(parser.num_errors))]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    given = network.get_input(0)
    profile.set_shape(given.name, *((size, *given.shape[1:]) for size in PROFILE))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return (None if plan is None else bytes(plan)), lines
