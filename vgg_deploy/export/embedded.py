"""``export_embedded``: the plain ONNX file with preprocessing and softmax around it."""

from __future__ import annotations

import gc
from dataclasses import asdict
from pathlib import Path

from vgg_deploy.artifact import Artifact, Precision, TensorSpec
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.export.baked import IMAGE, LOGITS, EmbeddedOptions
from vgg_deploy.export.guard import claim_space, imports, resources
from vgg_deploy.export.registry import valid_artifact
from vgg_deploy.files import word
from vgg_deploy.manifest import Draft
from vgg_deploy.onnx_source import load_source
from vgg_deploy.spec import ModelCard

_OVERHEAD = 1 << 20  # bytes: the nodes around the network
_GRAPH = "3"  # another number makes files with earlier nodes stale


def export_embedded(
    bundle: Bundle, *, precision: Precision = "fp32", options: EmbeddedOptions | None = None
) -> tuple[Bundle, Artifact, bool]:
    """Make the embedded file from the bundle's plain ONNX file, or keep a valid one.

    Returns the bundle, the artifact, and whether it was reused. The plain file is its parent:
    the network's nodes and weights are those of that file.

    Raises ``RefusedInput`` without a plain file of that precision, ``DigestMismatch`` for an
    edited one, ``UsageError`` for options that do not fit the model.
    """
    from vgg_deploy.export import to_onnx

    options = options or EmbeddedOptions()
    plain = plain_file(bundle, precision)
    bundle.check([plain])
    made_by = to_onnx.tool_versions() | {k: str(v) for k, v in asdict(options).items()}
    made_by["graph"] = _GRAPH
    made_by |= {name: plain.made_by[name] for name in ("needs",) if name in plain.made_by}
    if valid := valid_artifact(bundle, "embedded", precision, plain.sha256, made_by):
        return bundle, valid, True
    claim_space(bundle.root, plain.size_bytes + _OVERHEAD, "export the embedded ONNX file")
    draft = Draft(
        format="embedded",
        precision=precision,
        input=image_spec(bundle.card, options),
        output=TensorSpec(
            name=LOGITS, dtype="float32", shape=("batch", bundle.card.spec.classes), layout="NC"
        ),
        parent=plain.sha256,
        made_by=made_by,
    )
    root, card = bundle.root, bundle.card
    bundle, artifact = bundle.add(draft, lambda path: _write(root, plain, card, options, path))
    return bundle, artifact, False


def plain_file(bundle: Bundle, precision: Precision) -> Artifact:
    """The file to embed; ``RefusedInput`` where the bundle holds none of that precision."""
    plain = bundle.find("onnx", precision)
    if plain is None:
        raise RefusedInput(
            f"{bundle.root} holds no {precision} ONNX file to embed",
            f"make it: vgg-deploy export {word(bundle.root)} --format onnx --precision {precision}",
        )
    return plain


def image_spec(card: ModelCard, options: EmbeddedOptions) -> TensorSpec:
    """What an embedded file takes: uint8 ``[N, H, W, C]`` of any size, unless resize is none."""
    size = card.spec.size
    side: tuple[int | str, int | str] = ("height", "width")
    return TensorSpec(
        name=IMAGE,
        dtype="uint8",
        shape=("batch", *((size, size) if options.resize == "none" else side), card.spec.channels),
        layout="NHWC",
        value_range=(0.0, 255.0),
    )


def _write(
    root: Path, plain: Artifact, card: ModelCard, options: EmbeddedOptions, path: Path
) -> None:
    from vgg_deploy.export import to_onnx
    from vgg_deploy.export.baked import bake
    from vgg_deploy.export.onnx_file import write_model
    from vgg_deploy.export.onnx_policy import OPSET, check_embedded

    doing = "export the embedded ONNX file"
    with imports(doing), resources(doing):
        import onnx_ir as ir

        model = ir.from_proto(load_source(root / plain.path, plain))
        network = {(node.domain, node.op_type) for node in model.graph}
        opset = model.opset_imports.get("", OPSET)  # bf16 and fp8 need a later one
        bake(model, card, options)
        check_embedded(model, network, options.resize, opset)
        write_model(model, path)
        del model
        gc.collect()  # the weights leave memory before the checker reads its own copy
        to_onnx.check_file(path)
