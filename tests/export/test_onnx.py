"""ONNX: equal to torch in ONNX Runtime, plain, self-contained, free of local paths."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.export.networks import CARDS, Run, card_of, check_equal, lively_bundle, preprocessing_of
from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.export import export
from vgg_deploy.export.onnx_policy import ALLOWED_OPS
from vgg_deploy.spec import ModelSpec


def in_onnx_runtime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["logits"], {"input": images.numpy()})[0])

    return run


def exported(root: Path, name: str) -> tuple[Bundle, Artifact, onnx.ModelProto]:
    bundle, artifact, _ = export(lively_bundle(root, CARDS[name]), "onnx")
    return bundle, artifact, onnx.load(bundle.path(artifact))


@pytest.mark.parametrize("name", CARDS)
def test_equals_torch_and_is_plain(tmp_path: Path, name: str) -> None:
    bundle, artifact, model = exported(tmp_path, name)
    check_equal(bundle, in_onnx_runtime(bundle.path(artifact)))
    ops = [node.op_type for node in model.graph.node]
    assert set(ops) <= ALLOWED_OPS - {"Reshape", "Add"}
    assert ops.count("MatMul") == 2 * int(name in ("head_2", "head_10"))
    assert ops.count("Conv") + ops.count("Gemm") == CARDS[name].spec.weight_layers
    assert ops.count("LRN") == int(CARDS[name].spec.lrn)
    assert ops.count("AveragePool") == int(name in ("head_14", "gap"))
    assert ops.count("Flatten") == 1


def test_header(tmp_path: Path) -> None:
    _, artifact, model = exported(tmp_path, "vgg11_bn")
    assert (model.ir_version, model.producer_name) == (8, "vgg-deploy")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": ["batch", 3, 32, 32], "logits": ["batch", 10]}
    assert list(artifact.input.shape) == shapes["input"]
    assert list(artifact.output.shape) == shapes["logits"]


def test_nothing_beside_weights_and_nodes(tmp_path: Path) -> None:
    _, _, model = exported(tmp_path, "vgg11_bn")
    graph = model.graph
    assert not graph.value_info
    assert not model.functions
    assert not graph.doc_string
    assert not graph.metadata_props
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        assert not item.metadata_props
        assert not item.doc_string
    names = [tensor.name for tensor in graph.initializer]
    used = {name for node in graph.node for name in node.input}
    assert len(names) == len(set(names))
    assert set(names) <= used
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.initializer)
    contents = [(tuple(t.dims), t.raw_data) for t in graph.initializer if len(t.raw_data) > 256]
    assert len(contents) == len(set(contents))


def test_metadata_values_are_json(tmp_path: Path) -> None:
    bundle, artifact, model = exported(tmp_path, "grey")
    values = {entry.key: entry.value for entry in model.metadata_props}
    assert sorted(values) == [
        f"vgg_deploy.{key}"
        for key in ("arch", "labels", "precision", "preprocessing", "versions", "weights_sha256")
    ]
    spec = jsonio.loads(ModelSpec, values["vgg_deploy.arch"], source="the file")
    assert spec == bundle.card.spec
    assert json.loads(values["vgg_deploy.labels"]) == list(bundle.card.labels)
    assert preprocessing_of(values["vgg_deploy.preprocessing"]) == bundle.card.preprocessing
    assert json.loads(values["vgg_deploy.weights_sha256"]) == bundle.checkpoint.sha256
    assert json.loads(values["vgg_deploy.versions"]) == artifact.made_by
    assert json.loads(values["vgg_deploy.precision"]) == "fp32"


def test_only_one_file_without_local_paths(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in lively_bundle(tmp_path, CARDS["vgg11_lrn"]).root.iterdir()}
    bundle, artifact, _ = exported(tmp_path, "vgg11_lrn")
    assert {path.name for path in tmp_path.iterdir()} - before == {"model.fp32.onnx"}
    content = bundle.path(artifact).read_bytes()
    forbidden = ("site-packages", ".py", "partial-", str(Path.cwd()), str(tmp_path))
    for text in (*forbidden, os.path.expanduser("~") + os.sep):  # noqa: PTH111
        assert text.encode() not in content
    assert capfd.readouterr() == ("", "")


def test_bytes_are_the_same_each_time_and_canonical(tmp_path: Path) -> None:
    digests = set()
    for index in range(2):
        bundle, artifact, model = exported(tmp_path / str(index), "vgg11_bn")
        content = bundle.path(artifact).read_bytes()
        digests.add(artifact.sha256)
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        assert model.SerializeToString(deterministic=True) == content
    assert len(digests) == 1


def test_passes_the_full_check(tmp_path: Path) -> None:
    bundle, artifact, _ = exported(tmp_path, "ceil_50_bn")
    onnx.checker.check_model(str(bundle.path(artifact)), full_check=True)


def test_an_invalid_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_deploy.export import to_onnx

    def break_shape(model: object) -> None:
        from typing import Any, cast

        cast("Any", model).graph.outputs[0].shape = cast("Any", model).graph.inputs[0].shape

    monkeypatch.setattr(to_onnx, "check_policy", break_shape)
    bundle = lively_bundle(tmp_path, CARDS["grey"])
    with pytest.raises(RefusedInput, match="not valid ONNX"):
        export(bundle, "onnx")
    assert not list(tmp_path.glob("*.onnx"))


blocks = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 6)), min_size=1, max_size=3)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    conv_arch=blocks,
    size=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
    batch_norm=st.booleans(),
    lrn=st.booleans(),
    ceil_mode=st.booleans(),
    pointwise=st.booleans(),
)
def test_any_network_equals_torch(
    tmp_path_factory: pytest.TempPathFactory,
    conv_arch: list[tuple[int, int]],
    size: int,
    channels: int,
    batch_norm: bool,
    lrn: bool,
    ceil_mode: bool,
    pointwise: bool,
) -> None:
    spec = ModelSpec(
        arch="custom",
        conv_arch=tuple(conv_arch),
        pointwise=(1,) * len(conv_arch) if pointwise else (),
        lrn=lrn,
        batch_norm=batch_norm,
        size=size,
        channels=channels,
        classes=7,
        fc_width=16,
        ceil_mode=ceil_mode,
    )
    bundle = lively_bundle(tmp_path_factory.mktemp("any"), card_of(spec))
    bundle, artifact, _ = export(bundle, "onnx")
    run = in_onnx_runtime(bundle.path(artifact))
    images = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(2))
    from vgg_deploy.model.checkpoint import load_model

    with torch.no_grad():
        want = load_model(bundle.path(bundle.checkpoint))(images).numpy()
    np.testing.assert_allclose(
        run(images).numpy(), want, rtol=0, atol=1e-5 * float(np.abs(want).max())
    )
