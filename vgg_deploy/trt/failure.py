"""Why TensorRT did not do it: its own words, as an error with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vgg_deploy.cuda import Driver, out_of_memory
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, ResourceLimit, VggDeployError
from vgg_deploy.trt.flavour import Library
from vgg_deploy.trt.log import Log

_MEMORY = re.compile(
    r"out of memory|could not be allocated|OutOfMemory|insufficient memory", re.IGNORECASE
)
_SIZE = re.compile(r"(?:GPU memory \(|Requested size was |requested size of )(\d+)")
_NO_DRIVER = re.compile(
    r"driver version is insufficient|no CUDA-capable device|CUDA initialization failure",
    re.IGNORECASE,
)
_WORKSPACE = re.compile(r"workspace (limit|size)", re.IGNORECASE)
_ANOTHER = "build with another precision, profile or flavour; the text above is TensorRT's"
_LARGER = "give a larger --workspace, in MiB, or leave it out; the text above is TensorRT's"


def build_failure(
    log: Log, doing: str, driver: Driver | None, remedy: str = _ANOTHER, needs: int = 0
) -> VggDeployError:
    """The error for a builder or runtime that returned nothing; the reason is in its log.

    ``doing`` completes "could not ...", ``remedy`` is for what is neither memory nor a missing
    driver, ``needs`` is how many bytes of the GPU it takes as far as is known.
    """
    told, said = _told(log, driver), reason(log, driver)
    everything = "\n".join([*told, *log.warnings] if driver else told)
    # the driver is asked only where it may tell: after a broken run it answers with an error
    if driver and (_MEMORY.search(everything) or (needs and needs > driver.memory()[0])):
        return _no_memory(doing, said if told else "", everything, driver, needs)
    if _NO_DRIVER.search(everything):
        return BackendNotAvailable(
            f"could not {doing}: {said}", "needs an NVIDIA GPU and its driver; see nvidia-smi"
        )
    if remedy == _ANOTHER and _WORKSPACE.search(everything):
        remedy = _LARGER
    return RefusedInput(f"could not {doing}: {said}", remedy)


def reason(log: Log, driver: Driver | None) -> str:
    """What TensorRT said, each thing once, in one line."""
    return "; ".join(dict.fromkeys(map(_plain, _told(log, driver)))) or "TensorRT gave no reason"


def _told(log: Log, driver: Driver | None) -> list[str]:
    told = log.errors or log.warnings  # 8.6 only warns of what then makes it fail
    if driver:
        return told
    # TensorRT-RTX adds to every error that there is no driver, which its builder does not need.
    return [text for text in told if not _NO_DRIVER.search(text)] or told


def _no_memory(
    doing: str, said: str, everything: str, driver: Driver, needs: int
) -> VggDeployError:
    sizes = [int(size) for size in _SIZE.findall(everything)]
    largest = max([*sizes, needs])
    wanted = f"{largest / 1e9:.2f} GB" if largest else "an amount that TensorRT does not tell"
    lacking = out_of_memory(wanted, driver)
    return ResourceLimit(
        f"could not {doing}: {lacking.cause}" + (f"; {said}" if said else ""),
        "use smaller profiles or --workspace, or end other programs on this GPU",
    )


def given(made: Any, what: str) -> Any:
    """What TensorRT made; ``RuntimeError``, to be ``explained``, where that is nothing."""
    if made is None:
        raise RuntimeError(f"TensorRT gave no {what}")
    return made


@contextmanager
def explained(
    log: Log, doing: str, driver: Driver | None, remedy: str = _ANOTHER
) -> Iterator[None]:
    """What the bindings raise within is told as what they return is: with the logger's lines."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        log.keep("ERROR", str(error) or type(error).__name__)
        raise build_failure(log, doing, driver, remedy) from error


def start(library: Library, kind: str, keeper: Any, log: Log, driver: Driver | None) -> Any:
    """A ``Builder`` or ``Runtime``, or ``BackendNotAvailable``: no file is to blame for that."""
    doing = f"start the {kind.lower()} of {library.traits.label}"
    try:
        with explained(log, doing, driver):
            made = library.make(kind, keeper)
        if made is None:
            raise build_failure(log, doing, driver)
    except RefusedInput as error:
        raise BackendNotAvailable(
            error.cause, f"see vgg-deploy doctor and nvidia-smi, or {library.traits.install}"
        ) from error
    return made


def parse_failure(parser: Any, name: str, content: bytes, label: str) -> RefusedInput:
    """The error for the ``content`` of a file that the parser does not take; it names the node."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if not errors:
        reason = "the parser gave no reason"
    else:
        first = errors[0]
        reason = f"{_node(content, first.node())}{_plain(first.desc())}"
    return RefusedInput(
        f"{label} does not take {name}: {reason}",
        "export the ONNX again with vgg-deploy; an operator it does not know must go",
    )


def _node(content: bytes, index: int) -> str:
    """``"node relu_3 (Relu): "`` by its place in the graph, which every version tells."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        nodes = onnx.load_from_string(content).graph.node
    except DecodeError:
        return ""
    if not 0 <= index < len(nodes):
        return ""
    return f"node {nodes[index].name or index} ({nodes[index].op_type}): "


def _plain(text: str) -> str:
    """One line without the source places of TensorRT's authors."""
    line = " ".join(text.split())
    return re.sub(r"\s*In \w+ at \S+:\d+", "", line).strip().rstrip(".")
