"""Why TensorRT did not do it: its own words, as an error with a remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vgg_deploy.cuda import Driver, out_of_memory
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, VggDeployError
from vgg_deploy.trt.log import Log

_MEMORY = re.compile(
    r"out of memory|could not be allocated|OutOfMemory|insufficient memory", re.IGNORECASE
)
_SIZE = re.compile(r"(?:GPU memory \(|Requested size was |requested size of )(\d+)")
_NO_DRIVER = re.compile(
    r"driver version is insufficient|no CUDA-capable device|CUDA initialization failure",
    re.IGNORECASE,
)


def build_failure(log: Log, doing: str, driver: Driver | None) -> VggDeployError:
    """The error for a builder or runtime that returned nothing; the reason is in its log.

    ``doing`` completes "could not ...".
    """
    # 8.6 only warns of what then makes it fail
    errors = log.errors or log.warnings or ["TensorRT gave no reason"]
    said = "; ".join(dict.fromkeys(map(_plain, errors)))
    everything = "\n".join([*errors, *log.warnings])
    if driver and _MEMORY.search(everything):
        sizes = [int(size) for size in _SIZE.findall(everything)]
        wanted = f"{max(sizes) / 1e9:.2f} GB" if sizes else "an amount that TensorRT does not tell"
        error = out_of_memory(wanted, driver)
        error.remedy = f"use smaller profiles or --workspace, or end other programs; {said}"
        return error
    if _NO_DRIVER.search(everything):
        return BackendNotAvailable(
            f"could not {doing}: {said}", "needs an NVIDIA GPU and its driver; see nvidia-smi"
        )
    return RefusedInput(
        f"could not {doing}: {said}",
        "build with another precision, profile or flavour; the text above is TensorRT's",
    )


def parse_failure(parser: Any, onnx_path: Path, label: str) -> RefusedInput:
    """The error for an ONNX file that the parser does not take; it names the node."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if not errors:
        reason = "the parser gave no reason"
    else:
        first = errors[0]
        reason = f"{_node(onnx_path, first.node())}{_plain(first.desc())}"
    return RefusedInput(
        f"{label} does not take {onnx_path.name}: {reason}",
        "export the ONNX again with vgg-deploy; an operator it does not know must go",
    )


def _node(onnx_path: Path, index: int) -> str:
    """``"node relu_3 (Relu): "`` by its place in the graph, which every version tells."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        nodes = onnx.load(onnx_path, load_external_data=False).graph.node
    except DecodeError:
        return ""
    if not 0 <= index < len(nodes):
        return ""
    return f"node {nodes[index].name or index} ({nodes[index].op_type}): "


def _plain(text: str) -> str:
    """One line without the source places of TensorRT's authors."""
    line = " ".join(text.split())
    return re.sub(r"\s*In \w+ at \S+:\d+", "", line).strip().rstrip(".")
