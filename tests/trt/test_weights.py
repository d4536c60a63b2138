"""Weights stored in int8 become float ones with a pair, where the parser needs that."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from tests.conftest import make_bundle, make_card
from tests.rtx import build
from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import built
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.trt.flavour import TRAITS
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.pairs import without_pairs_before_relu
from vgg_deploy.trt.weights import as_read_by, with_float_weights

CARD = make_card("1x16-2x32")
PRODUCTS = CARD.spec.weight_layers
FILE = "model.int8.onnx"


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_bundle(tmp_path_factory.mktemp("int8") / "bundle", CARD)
    options = CalibrationOptions(data="sample", images=16)
    return export_bundle(made, ("onnx",), precisions=["int8"], calibration=options)[0].root


@pytest.fixture
def content(quantized: Path) -> bytes:
    return (quantized / FILE).read_bytes()


def kinds(content: bytes) -> list[int]:
    """Types of the weights that are read by a ``DequantizeLinear`` or quantized in the graph."""
    graph = onnx.load_from_string(content).graph
    known = {t.name: t.data_type for t in graph.initializer}
    return [known[n.input[0]] for n in graph.node if n.input[0] in known]


def logits(content: bytes, optimized: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = session.run(None, {"input": batch})[
        0
    ]
    return found


def test_the_graph_quantizes_float_weights_to_the_stored_numbers(content: bytes) -> None:
    changed = with_float_weights(content)
    onnx.checker.check_model(changed, full_check=True)
    assert kinds(content) == [TensorProto.INT8] * PRODUCTS
    assert kinds(changed) == [TensorProto.FLOAT] * PRODUCTS
    stored = {t.name: t for t in onnx.load_from_string(content).graph.initializer}
    graph = onnx.load_from_string(changed).graph
    floats = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    seen = 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in floats:
            values, scale = (floats[name] for name in node.input[:2])
            axis = node.attribute[0].i
            steps = values / scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
            wanted = numpy_helper.to_array(stored[node.input[0]])
            np.testing.assert_array_equal(np.rint(steps), wanted)
            seen += 1
    assert seen == PRODUCTS


@pytest.mark.parametrize("optimized", [True, False])
def test_it_computes_the_same(content: bytes, optimized: bool) -> None:
    before = logits(content, optimized)
    assert before.std() > 0.1
    np.testing.assert_array_equal(logits(with_float_weights(content), optimized), before)


def followers(content: bytes) -> list[str]:
    """What reads the outputs of convolutions and fully connected layers."""
    graph = onnx.load_from_string(content).graph
    made = {node.output[0] for node in graph.node if node.op_type in ("Conv", "Gemm")}
    return [node.op_type for node in graph.node if node.input[0] in made]


def test_for_8_6_no_pair_stands_before_a_relu(content: bytes) -> None:
    """And not one bit of what the graph says is another."""
    changed = without_pairs_before_relu(content)
    onnx.checker.check_model(changed, full_check=True)
    assert followers(content) == ["QuantizeLinear"] * (PRODUCTS - 1)
    assert followers(changed) == ["Relu"] * (PRODUCTS - 1)
    np.testing.assert_array_equal(logits(changed, False), logits(content, False))
    assert followers(as_read_by(TRAITS[0], content)) == ["Relu"] * (PRODUCTS - 1)


def test_a_pair_that_rounds_for_itself_stays(content: bytes) -> None:
    model = onnx.load_from_string(content)
    other = next(t for t in model.graph.initializer if t.name.endswith("_scale") and not t.dims)
    (node,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear"][1:2]
    double = onnx.TensorProto(name="double")
    double.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(other), "double"))
    model.graph.initializer.append(double)
    node.input[1] = "double"
    kept = followers(without_pairs_before_relu(model.SerializeToString()))
    assert kept == ["QuantizeLinear", *["Relu"] * (PRODUCTS - 2)]


def test_a_node_without_inputs_is_no_pair(content: bytes) -> None:
    model = onnx.load_from_string(content)
    constant = onnx.helper.make_node("Constant", [], ["unread"], value_float=1.0)
    model.graph.node.insert(0, constant)
    changed = onnx.load_from_string(without_pairs_before_relu(model.SerializeToString()))
    assert changed.graph.node[0] == constant
    assert len(changed.graph.node) < len(model.graph.node)


def test_rubbish_is_left_to_the_parser() -> None:
    assert without_pairs_before_relu(b"\xffno onnx") == b"\xffno onnx"


def test_any_scale_gives_back_any_step() -> None:
    """What the docstring claims, for every int8 and scales of all sizes."""
    steps = np.arange(-127, 128, dtype=np.float32)
    scales = np.random.default_rng(0).lognormal(-5, 8, 20_000).astype(np.float32)[:, None]
    scales = scales[scales > 1e-30].reshape(-1, 1)
    assert scales.min() < 1e-9
    np.testing.assert_array_equal(
        np.rint(steps * scales / scales), np.broadcast_to(steps, (len(scales), 255))
    )


def test_only_the_rows_that_need_it_get_another_file(content: bytes) -> None:
    same = {traits.label for traits in TRAITS if as_read_by(traits, content) is content}
    assert {traits.label for traits in TRAITS} - same == {"TensorRT 8.6"}


def test_every_version_builds_int8(
    quantized: Path, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle: Bundle = open_bundle(Path(shutil.copytree(quantized, tmp_path / "bundle")))
    bundle, engine, _ = built(bundle, fake, BuildOptions(precision="int8"))
    assert engine.made_by["onnx"] == FILE, "the file that was read is the bundle's"
    assert ("INT8" in fake.flags) == (fake.name == "8.6")


def test_the_real_parser_and_builder_of_rtx_take_it(content: bytes, tmp_path: Path) -> None:
    """TensorRT 8.6 itself cannot be had without a GPU; this is its newest relative."""
    path = tmp_path / "float_weights.onnx"
    path.write_bytes(as_read_by(TRAITS[0], content))
    plan, said = build(path, "SM89")
    assert plan, said
    plain = tmp_path / "int8_weights.onnx"
    plain.write_bytes(content)
    other, said = build(plain, "SM89")
    assert other, said
    assert len(plan) == pytest.approx(len(other), rel=0.1), "weights are int8 in both plans"
