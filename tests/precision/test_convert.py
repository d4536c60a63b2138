"""Every precision: valid, computes what fp32 does, read by real runtimes, kept while valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from tests.precision.conftest import GRAPHS, OPTIONS, artifact_of, with_changed_onnx
from tests.rtx import build
from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Selective
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError
from vgg_deploy.export import export
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.manifest import save_manifest
from vgg_deploy.precision import ONNX_PRECISIONS, convert
from vgg_deploy.precision.convert import images_to_run

MADE: tuple[Precision, ...] = ("fp16", "bf16", "int8", "fp8")
DIALECT = {"fp16": (18, 8), "int8": (18, 8), "fp8": (19, 9), "bf16": (22, 10)}
# Relative L2 on images like those calibrated with: a few roundings of each type.
CLOSE = {"fp16": 2e-3, "bf16": 2e-2, "int8": 1e-1, "fp8": 1.5e-1}
RUNS = [("ort-cpu", "fp16"), ("ort-cpu", "int8"), ("ort-cpu", "fp8")]
RUNS += [("openvino", "int8"), ("openvino", "fp8")]


@pytest.fixture(scope="module")
def converted(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Bundle]:
    """A bundle with every precision, made once per architecture."""
    import shutil

    made: dict[str, Bundle] = {}

    def bundle(arch: str) -> Bundle:
        if arch not in made:
            root = shutil.copytree(exported(arch), tmp_path_factory.mktemp("all") / arch)
            made[arch] = open_bundle(root)
            for precision in MADE:
                made[arch], _, _ = convert(made[arch], precision, OPTIONS)
        return made[arch]

    return bundle


def images_for(bundle: Bundle) -> Array:
    """Test images, which nothing was calibrated with."""
    images = load_dataset("sample").test.images[:32]
    return preprocess(to_channels(images, 3), bundle.card.preprocessing)


def logits(bundle: Bundle, backend: str, precision: Precision) -> Array:
    with get_backend(backend).open(artifact_of(bundle, precision), bundle.root) as session:
        return session(images_for(bundle))


@pytest.mark.parametrize("precision", MADE)
@pytest.mark.parametrize("arch", GRAPHS)
def test_is_valid_small_and_says_what_it_is(
    converted: Callable[[str], Bundle], arch: str, precision: Precision
) -> None:
    bundle = converted(arch)
    artifact, source = artifact_of(bundle, precision), artifact_of(bundle, "fp32")
    path = bundle.path(artifact)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert (model.opset_import[0].version, model.ir_version) == DIALECT[precision]
    assert artifact.path.name == f"model.{precision}.onnx"
    assert artifact.parent == source.sha256
    assert (artifact.input, artifact.output) == (source.input, source.output)
    types = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert types == [TensorProto.FLOAT] * 2
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["vgg_deploy.precision"]) == precision
    assert json.loads(metadata["vgg_deploy.made_by"]) == artifact.made_by
    plain = {e.key: e.value for e in onnx.load(bundle.path(source)).metadata_props}
    needs = {"vgg_deploy.needs"} if precision == "fp8" else set()
    assert set(metadata) == set(plain) | {"vgg_deploy.made_by"} | needs
    assert all(metadata[k] == plain[k] for k in plain if k != "vgg_deploy.precision")
    assert str(bundle.root).encode() not in path.read_bytes()
    assert artifact.size_bytes < 0.9 * source.size_bytes


def test_an_fp8_file_says_how_onnx_runtime_opens_it(converted: Callable[[str], Bundle]) -> None:
    """The option that its metadata names is enough, also with the preprocessing inside."""
    bundle, embedded, _ = export_embedded(converted("vgg11"), precision="fp8")
    for artifact in (artifact_of(bundle, "fp8"), embedded):
        path = bundle.path(artifact)
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        needs = json.loads(metadata["vgg_deploy.needs"])
        assert needs == artifact.made_by["needs"]
        level = needs.split()[-1]
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map["vgg_deploy.needs"] == json.dumps(needs)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_is_half_everywhere_but_around_lrn(
    converted: Callable[[str], Bundle], precision: Precision
) -> None:
    bundle = converted("vgg11_lrn")
    model = onnx.load(bundle.path(artifact_of(bundle, precision)))
    kind = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    assert {tensor.data_type for tensor in model.graph.initializer} == {kind}
    ops = [node.op_type for node in model.graph.node]
    assert (ops[0], ops[-1], ops.count("Cast")) == ("Cast", "Cast", 4)
    lrn = ops.index("LRN")
    assert (ops[lrn - 1], ops[lrn + 1]) == ("Cast", "Cast")


@pytest.mark.parametrize("arch", GRAPHS)
def test_int8_is_what_tensorrt_takes(converted: Callable[[str], Bundle], arch: str) -> None:
    bundle = converted(arch)
    model = onnx.load(bundle.path(artifact_of(bundle, "int8")))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == bundle.card.spec.weight_layers
    for node in layers:
        weight = made_by[node.input[1]]
        values, scale, zero = (tensors[name] for name in weight.input)
        assert values.dtype == np.int8
        assert scale.shape == zero.shape == (len(values),)
        assert not zero.any()
        assert np.abs(values).max(axis=tuple(range(1, values.ndim))).min() == 127
        activation = made_by[node.input[0]]
        assert (weight.op_type, activation.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert made_by[activation.input[0]].op_type == "QuantizeLinear"
        assert tensors[activation.input[2]].dtype == np.int8
        assert tensors[node.input[2]].dtype == np.float32, "a quantized bias is refused"
    quantizers = [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantizers) == len(set(quantizers))
    lrn = int(bundle.card.spec.lrn)  # after it comes another scale
    assert len(quantizers) == 2 * len(layers) - 1 - lrn, "inputs, and outputs but the logits"


@pytest.mark.parametrize("arch", GRAPHS)
def test_onnxruntime_computes_int8_in_int8(
    converted: Callable[[str], Bundle], arch: str, tmp_path: Path
) -> None:
    """Else it would be slower than fp32, and nothing would say why."""
    import onnxruntime as ort

    bundle = converted(arch)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    path = str(bundle.path(artifact_of(bundle, "int8")))
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    convolutions = sum(n for n, _ in bundle.card.spec.conv_arch)
    assert kinds.count("QLinearConv") == convolutions - int(bundle.card.spec.lrn)
    assert kinds.count("QGemm") == 2, "fc8 gives its logits in float32"


@pytest.mark.parametrize(("backend", "precision"), RUNS)
@pytest.mark.parametrize("arch", GRAPHS)
def test_computes_what_fp32_does(
    converted: Callable[[str], Bundle], arch: str, backend: str, precision: Precision
) -> None:
    bundle = converted(arch)
    exact, found = logits(bundle, "ort-cpu", "fp32"), logits(bundle, backend, precision)
    assert np.ptp(exact, axis=0).max() > 0.1 * np.abs(exact).max(), "else only biases are compared"
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 0 < error < CLOSE[precision]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_openvino_in_half_where_the_processor_has_it(
    converted: Callable[[str], Bundle], precision: Precision
) -> None:
    bundle, backend = converted("vgg11_lrn"), get_backend("openvino")
    artifact = artifact_of(bundle, precision)
    assert isinstance(backend, Selective)
    if backend.refuses(artifact):
        with pytest.raises(BackendNotAvailable, match=f"does not compute in {precision}"):
            logits(bundle, "openvino", precision)
        return
    found = logits(bundle, "openvino", precision)
    exact = logits(bundle, "ort-cpu", "fp32")
    assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < CLOSE[precision]


def test_bf16_in_onnxruntime_is_refused_before_it_breaks(
    converted: Callable[[str], Bundle],
) -> None:
    with pytest.raises(BackendNotAvailable, match="no bf16 convolution") as caught:
        logits(converted("vgg11_lrn"), "ort-cpu", "bf16")
    assert "openvino" in caught.value.remedy


@pytest.mark.parametrize(
    ("precision", "capability"),
    [
        ("fp32", "SM86"),
        ("fp16", "SM75"),
        ("fp16", "SM89"),
        ("bf16", "SM89"),
        ("int8", "SM86"),
        ("int8", "SM120"),
        ("fp8", "SM89"),
        ("fp8", "SM120"),
    ],
)
@pytest.mark.parametrize("arch", GRAPHS)
def test_tensorrt_parses_and_builds_it(
    converted: Callable[[str], Bundle], arch: str, precision: Precision, capability: str
) -> None:
    bundle = converted(arch)
    plan, said = build(bundle.path(artifact_of(bundle, precision)), capability)
    assert plan, said
    assert len(plan) > 1000


def test_a_graph_tensorrt_refuses_is_seen(bundle: Bundle, tmp_path: Path) -> None:
    """The check above can fail: a zero point that is not zero."""
    bundle, artifact, _ = convert(bundle, "int8", OPTIONS)
    model = onnx.load(bundle.path(artifact))
    zero = next(t for t in model.graph.initializer if t.name == "quantized_zero")
    zero.raw_data = b"\x03"
    onnx.save(model, tmp_path / "asymmetric.onnx")
    plan, said = build(tmp_path / "asymmetric.onnx", "SM86")
    assert plan is None
    assert said


@pytest.mark.parametrize("precision", MADE)
def test_every_image_that_is_run_is_told(bundle: Bundle, precision: Precision) -> None:
    told: list[int] = []
    convert(bundle, precision, OPTIONS, told.append)
    assert sum(told) == images_to_run(precision, OPTIONS)


@pytest.mark.parametrize("precision", MADE)
def test_is_kept_while_valid_and_the_same_bytes_when_made_again(
    bundle: Bundle, precision: Precision
) -> None:
    bundle, first, reused = convert(bundle, precision, OPTIONS)
    assert not reused
    bundle, second, reused = convert(bundle, precision, OPTIONS)
    assert (second, reused) == (first, True)
    bundle.path(first).write_bytes(b"damaged")
    bundle, third, reused = convert(bundle, precision, OPTIONS)
    assert (third.sha256, reused) == (first.sha256, False)


def test_what_a_new_fp32_file_makes_stale_is_dropped(bundle: Bundle) -> None:
    for precision in ("fp16", "int8"):
        bundle, _, _ = convert(bundle, precision, OPTIONS)
    source = artifact_of(bundle, "fp32")
    bundle.path(source).write_bytes(b"damaged")
    bundle, again, reused = export(bundle, "onnx")
    assert (again.sha256, reused) == (source.sha256, False)
    kept = [a.precision for a in bundle.artifacts if a.format == "onnx"]
    assert kept == ["fp32", "fp16", "int8"], "same bytes, same children"
    bundle, _, _ = convert(bundle, "bf16")
    assert bundle.find("onnx", "int8"), "a child was taken for an orphan"
    bundle = with_changed_onnx(bundle, lambda model: model.ClearField("producer_version"))
    assert [a.precision for a in bundle.artifacts if a.format == "onnx"] == ["fp32"]
    assert not (bundle.root / "model.int8.onnx").exists()


def test_without_an_fp32_file_there_is_nothing_to_convert(tiny_bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="no fp32 ONNX") as caught:
        convert(tiny_bundle, "fp16")
    assert "--format onnx" in caught.value.remedy


def test_unknown_precision_suggests_the_nearest(bundle: Bundle) -> None:
    assert set(ONNX_PRECISIONS) == {"fp32", *MADE}
    with pytest.raises(UsageError) as caught:
        convert(bundle, "fp15")  # type: ignore[arg-type]
    assert "did you mean 'fp16'" in caught.value.remedy


def test_int8_is_told_as_it_is_and_kept_from_when_it_was_told_otherwise(bundle: Bundle) -> None:
    bundle, made, _ = convert(bundle, "int8", OPTIONS)
    told = made.made_by["activations"]
    assert "outputs that feed another through ReLU, max pooling and flatten" in told
    before = "symmetric, one scale per tensor, on inputs and outputs of Conv and Gemm"
    for words, reused in ((before, True), ("asymmetric", False)):
        older = replace(made, made_by={**made.made_by, "activations": words})
        artifacts = tuple(older if a.path == made.path else a for a in bundle.artifacts)
        save_manifest(bundle.root, replace(bundle.manifest, artifacts=artifacts))
        assert convert(open_bundle(bundle.root), "int8", OPTIONS)[2] == reused
