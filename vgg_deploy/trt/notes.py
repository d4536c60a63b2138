"""What is noted about an engine when it is built, beside its plan."""

from __future__ import annotations

from dataclasses import replace

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, VggDeployError
from vgg_deploy.manifest import notes_path
from vgg_deploy.trt import match
from vgg_deploy.trt.layers import EngineNotes

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def read_notes(bundle: Bundle, engine: Artifact) -> EngineNotes:
    """What was noted about an engine when it was built; ``RefusedInput`` where that is lost."""
    path = notes_path(bundle.path(engine))
    again = "build the engine again: " + match.rebuild_command(engine, bundle.root)
    if not path.is_file():
        raise RefusedInput(f"no layers of {engine.path} are stored ({path.name} is missing)", again)
    notes = jsonio.load(EngineNotes, path)
    if notes.sha256 != engine.sha256:
        raise RefusedInput(f"{path.name} describes another file than {engine.path}", again)
    return notes if notes.products else _with_products(notes, bundle, engine)


def has_notes(bundle: Bundle, engine: Artifact) -> bool:
    """Whether there are notes, and of this very plan."""
    try:
        read_notes(bundle, engine)
    except VggDeployError:
        return False
    return True


def product_names(content: bytes) -> tuple[str, ...]:
    """Names of an ONNX file's convolutions and matrix products, in their order; none in rubbish."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_from_string(content).graph
    except DecodeError:
        return ()
    return tuple(node.name for node in graph.node if node.op_type in _PRODUCTS)


def _with_products(notes: EngineNotes, bundle: Bundle, engine: Artifact) -> EngineNotes:
    """Notes of an earlier version do not name the products; the ONNX file does, if unchanged."""
    source = next((a for a in bundle.artifacts if a.sha256 == engine.parent), None)
    if source is None or bundle.problem(source):
        return notes
    return replace(notes, products=product_names(bundle.path(source).read_bytes()))
