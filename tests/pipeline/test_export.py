"""Several files in one export: what fails, what is dropped, and that both are told."""

from __future__ import annotations

import json
from dataclasses import replace

import onnx
import pytest

from tests.precision.conftest import with_changed_onnx
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.manifest import Draft, save_manifest
from vgg_deploy.pipeline.export import export_bundle, export_files
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.precision.options import CalibrationOptions

FEW = CalibrationOptions(data="sample", images=8)


def overflowing(bundle: Bundle) -> Bundle:
    """The bundle with an fp32 ONNX file whose first bias half cannot hold."""

    def enlarge(model: onnx.ModelProto) -> None:
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        bias = next(t for t in model.graph.initializer if t.name == conv.input[2])
        values = onnx.numpy_helper.to_array(bias) + 1e6
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), bias.name))

    return with_changed_onnx(export_bundle(bundle, ("onnx",))[0], enlarge)


def with_engine(bundle: Bundle) -> Bundle:
    """The bundle with something that was made from its int8 file."""
    parent = bundle.find("onnx", "int8")
    assert parent is not None
    draft = Draft(
        format="engine",
        precision="int8",
        input=parent.input,
        output=parent.output,
        parent=parent.sha256,
        made_by={},
    )
    return bundle.add(draft, lambda path: path.touch())[0]


def test_one_precision_that_fails_does_not_stop_the_others(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    overflowing(tiny_bundle)
    words = ["export", str(tiny_bundle.root), "-p", "fp16", "-p", "bf16", "-p", "int8", "--json"]
    calibration = ["--calibration-data", "sample", "--calibration-images", "8", "--embedded"]
    assert main([*words, *calibration]) == 3
    out, said = capsys.readouterr()
    told = json.loads(out)
    assert [a["precision"] for a in told["artifacts"]] == ["fp32", "bf16", "int8", "bf16", "int8"]
    assert list(told["failed"]) == ["fp16"]
    assert "export: fp16 failed: " in said
    assert said.splitlines()[-2] == f"vgg-deploy: error: {told['failed']['fp16']}"


def test_as_a_function_the_first_error_is_raised_when_the_others_are_made(
    tiny_bundle: Bundle,
) -> None:
    bundle = overflowing(tiny_bundle)
    with pytest.raises(RefusedInput, match="fp16 overflows"):
        export_bundle(bundle, precisions=("fp16", "bf16"), calibration=FEW)
    assert open_bundle(bundle.root).find("onnx", "bf16")


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_what_was_made_from_a_file_that_is_replaced_is_told(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    given = EmbeddedOptions()
    bundle = export_bundle(tiny_bundle, precisions=("int8",), calibration=FEW, embedded=given)[0]
    with_engine(bundle)
    words = ["export", str(bundle.root), "-p", "int8", "--json", "--calibration-data", "sample"]
    assert main([*words, "--calibration-images", "8"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == []
    assert main([*words, "--calibration-images", "16"]) == 0
    out, said = capsys.readouterr()
    gone = ["model.int8.embedded.onnx", "model.int8.plan"]
    assert json.loads(out)["dropped"] == gone
    assert f"dropped, made from the old model.int8.onnx: {', '.join(gone)}" in said
    names = {str(a.path) for a in open_bundle(bundle.root).artifacts}
    assert not names & set(gone)


def test_what_is_made_again_in_the_same_call_is_not_dropped(tiny_bundle: Bundle) -> None:
    given, watch = EmbeddedOptions(), Told()
    bundle = export_bundle(tiny_bundle, precisions=("int8",), calibration=FEW, embedded=given)[0]
    more = CalibrationOptions(data="sample", images=16)
    done = export_files(bundle, (), watch, precisions=("int8",), calibration=more, embedded=given)
    assert done.gone == ["model.int8.embedded.onnx"]
    assert done.dropped == []
    assert any(text.startswith("dropped, ") for text in watch.said)


def test_how_a_precision_was_measured_outlives_the_fp32_file_it_was_made_from(
    tiny_bundle: Bundle,
) -> None:
    """Another version of torch or numpy makes the fp32 file again, with other bytes."""

    def other_bytes(model: onnx.ModelProto) -> None:
        model.doc_string = "of an earlier version"

    old = with_changed_onnx(export_bundle(tiny_bundle, ("onnx",))[0], other_bytes)
    old = export_bundle(old, precisions=("int8",), calibration=FEW)[0]
    stale = [
        replace(a, made_by={**a.made_by, "torch": "1.0"}) if a.precision == "fp32" else a
        for a in old.artifacts
    ]
    save_manifest(old.root, replace(old.manifest, artifacts=tuple(stale)))
    done = export_files(open_bundle(old.root), precisions=("int8",))
    assert done.gone == ["model.int8.onnx"]
    again, before = done.bundle.find("onnx", "int8"), old.find("onnx", "int8")
    assert again is not None
    assert before is not None
    assert again.parent != before.parent
    assert again.made_by["calibration_images"] == "8"
    assert again.made_by["calibration_data"] == before.made_by["calibration_data"]
    assert again.made_by["calibration_wanted"] == "sample"
