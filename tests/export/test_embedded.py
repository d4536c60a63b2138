"""The embedded file: pixels in, the plain network's logits out, plain operators, same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from torch.nn.functional import interpolate

from tests.export.conftest import Embedded, Plain
from tests.export.networks import lively_bundle, named, preprocessing_of
from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import DigestMismatch, RefusedInput, UsageError
from vgg_deploy.export import export
from vgg_deploy.export.baked import EmbeddedOptions, Resize
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.export.onnx_policy import ALLOWED_OPS, EMBEDDED_OPS
from vgg_deploy.precision import CalibrationOptions, convert
from vgg_deploy.spec import ModelCard

# height, width: the same, down, up, both ways, one pixel, very wide, very tall, odd
SIZES = ((32, 32), (64, 64), (20, 30), (100, 20), (1, 1), (3, 700), (700, 2), (301, 299))


def colour_card(crop: int | None, *, channels: int = 3) -> ModelCard:
    """Channels that differ in mean and deviation, with or without a centre crop."""
    card = named("1x4-1x8-2x8", channels=channels)
    mean, std = (0.4, 0.5, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels]
    return replace(card, preprocessing=replace(card.preprocessing, resize=crop, mean=mean, std=std))


def run(bundle: Bundle, artifact: Artifact, name: str, given: object) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if artifact.precision == "fp8":  # ONNX Runtime's own fusions do not know it
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        bundle.path(artifact), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[NDArray[np.float32]] = session.run(None, {name: given})
    return outputs


def images(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (2, height, width, channels)
    return np.random.default_rng(height * width).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("resize", ["portable", "native"])
@pytest.mark.parametrize("crop", [None, 37])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_preprocessing_and_plain_network(
    embedded: Embedded, resize: Resize, crop: int | None, channels: int
) -> None:
    card = colour_card(crop, channels=channels)
    bundle, artifact = embedded(card, EmbeddedOptions(resize=resize))
    plain = bundle.find("onnx")
    assert plain is not None
    for height, width in SIZES:
        pixels = images(height, width, channels)
        ready = preprocess(pixels, card.preprocessing)
        (want,) = run(bundle, plain, "input", ready)
        probabilities, logits = run(bundle, artifact, "image", pixels)
        scale = float(np.abs(want).max())
        bound = 1e-5 if resize == "portable" else 5e-5
        np.testing.assert_allclose(logits, want, rtol=0, atol=bound * scale)
        exact = np.exp(want - want.max(axis=1, keepdims=True))
        exact /= exact.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, exact, rtol=0, atol=bound * scale)


def test_the_resize_in_the_graph_is_torchs(embedded: Embedded) -> None:
    """Grey levels from 0 to 255, against torch in float64; 12 megapixels too."""
    bundle, artifact = embedded(colour_card(None))
    model = onnx.load(bundle.path(artifact))
    resized = [node.output[0] for node in model.graph.node if node.op_type == "MatMul"][-1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(resized, 1, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in (*SIZES, (480, 640), (3000, 4000)):
        pixels = images(height, width)[:1]
        (have,) = session.run([resized], {"image": pixels})
        exact = torch.from_numpy(pixels).permute(0, 3, 1, 2).double()
        want = interpolate(exact, (32, 32), mode="bilinear", antialias=True).numpy()
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-4)


def test_resize_none_takes_the_networks_size(embedded: Embedded) -> None:
    card = colour_card(None)
    bundle, artifact = embedded(card, EmbeddedOptions(resize="none"))
    plain = bundle.find("onnx")
    assert plain is not None
    pixels = images(32, 32)
    (want,) = run(bundle, plain, "input", preprocess(pixels, card.preprocessing))
    np.testing.assert_allclose(run(bundle, artifact, "image", pixels)[1], want, atol=1e-4)
    assert artifact.input.shape == ("batch", 32, 32, 3)
    with pytest.raises(InvalidArgument, match=r"image .*\s+index: 1 Got: 33 Expected: 32"):
        run(bundle, artifact, "image", images(33, 32))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_every_precision(plain: Plain, precision: Precision) -> None:
    """Valid by onnx's own checker; what ONNX Runtime has kernels for gives the plain logits."""
    card = colour_card(37)
    bundle = plain(card)
    bundle, cast, _ = convert(bundle, precision, CalibrationOptions(data="sample", images=8))
    bundle, artifact, _ = export_embedded(bundle, precision=precision)
    onnx.checker.check_model(str(bundle.path(artifact)), full_check=True)
    if precision == "bf16":  # no such convolution on a CPU
        return
    pixels = images(40, 50)
    (want,) = run(bundle, cast, "input", preprocess(pixels, card.preprocessing))
    _, logits = run(bundle, artifact, "image", pixels)
    # a rounding of the input may fall on either side of a level
    assert np.linalg.norm(logits - want) < 0.05 * np.linalg.norm(want)


def test_top_classes(embedded: Embedded) -> None:
    bundle, artifact = embedded(colour_card(None), EmbeddedOptions(topk=3))
    probabilities, _, scores, indices = run(bundle, artifact, "image", images(40, 50))
    order = np.argsort(-probabilities, axis=1)[:, :3]
    assert indices.tolist() == order.tolist()
    np.testing.assert_array_equal(scores, np.take_along_axis(probabilities, order, axis=1))
    with pytest.raises(UsageError, match="11 of 10 classes"):
        export_embedded(bundle, options=EmbeddedOptions(topk=11))
    assert bundle.problem(artifact) is None


@pytest.mark.parametrize("crop", [None, 37])
def test_policy(embedded: Embedded, tmp_path: Path, crop: int | None) -> None:
    """An allow-list of operators; no functions, subgraphs, domains, external data or paths."""
    bundle, artifact = embedded(colour_card(crop), EmbeddedOptions(topk=2))
    content = bundle.path(artifact).read_bytes()
    model = onnx.load_from_string(content)
    assert (model.ir_version, model.producer_name) == (8, "vgg-deploy")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert not model.functions
    assert not model.graph.value_info
    ops = [node.op_type for node in model.graph.node]
    assert set(ops) <= ALLOWED_OPS | EMBEDDED_OPS
    assert not {"Reshape", "Resize", "AveragePool"} & set(ops)
    assert ops[:2] == ["Cast", "Transpose"]
    for node in model.graph.node:
        assert not node.domain
        assert not node.metadata_props
        assert not any(a.HasField("g") or a.graphs for a in node.attribute)
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
    for text in ("site-packages", ".py", "partial-", str(Path.cwd()), str(tmp_path.parent)):
        assert text.encode() not in content
    onnx.checker.check_model(str(bundle.path(artifact)), full_check=True)
    assert model.SerializeToString(deterministic=True) == content


def test_network_is_that_of_the_plain_file(embedded: Embedded) -> None:
    """Nodes, attributes and weights; only the input's name differs, and the metadata is kept."""
    bundle, artifact = embedded(colour_card(None))
    plain_file = bundle.find("onnx")
    assert plain_file is not None
    assert artifact.parent == plain_file.sha256
    plain, baked = (onnx.load(bundle.path(a)) for a in (plain_file, artifact))
    names = {node.name for node in plain.graph.node}
    network = [node for node in baked.graph.node if node.name in names]
    network[0].input[0] = "input"
    assert network == list(plain.graph.node)
    weights = {t.name: t for t in baked.graph.initializer}
    assert all(weights[t.name] == t for t in plain.graph.initializer)
    have, want = ({e.key: e.value for e in m.metadata_props} for m in (baked, plain))
    options = json.loads(have.pop("vgg_deploy.embedded"))
    assert options == {"resize": "portable", "topk": 0}
    assert have == want
    assert preprocessing_of(have["vgg_deploy.preprocessing"]) == bundle.card.preprocessing


def test_reused_only_with_the_same_options_parent_and_graph(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, artifact = embedded(colour_card(None))
    assert artifact.path.name == "model.embedded.onnx"
    assert export_embedded(bundle)[2]
    bundle, other, reused = export_embedded(bundle, options=EmbeddedOptions(topk=1))
    assert not reused
    assert other.sha256 != artifact.sha256
    monkeypatch.setattr("vgg_deploy.export.embedded._GRAPH", "0")
    assert not export_embedded(bundle, options=EmbeddedOptions(topk=1))[2]


def test_without_a_plain_file_or_with_an_edited_one(tmp_path: Path) -> None:
    bundle = lively_bundle(tmp_path, colour_card(None))
    with pytest.raises(RefusedInput, match="holds no fp32 ONNX file") as caught:
        export_embedded(bundle)
    assert "--format onnx" in caught.value.remedy
    bundle, plain, _ = export(bundle, "onnx")
    with bundle.path(plain).open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"xyz")
    with pytest.raises(DigestMismatch):
        export_embedded(bundle)
    assert not (tmp_path / "model.embedded.onnx").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--embedded", "--resize", "nativ"], 2, "did you mean 'native'"),
        (["--embedded", "--topk", "-1"], 2, "--topk -1"),
        (["--embedded", "--topk", "99"], 2, "99 of 10 classes"),
        (["--topk", "2"], 2, "add --embedded"),
        (["--embedded", "--json"], 0, ""),
    ],
)
def test_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    bundle = lively_bundle(tmp_path, colour_card(None))
    assert main(["export", str(bundle.root), "--format", "onnx", *words]) == code
    output = capsys.readouterr()
    assert said in output.err
    if not code:
        made = json.loads(output.out)["artifacts"]
        assert [a["format"] for a in made] == ["onnx", "embedded"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--topk", "99"], 2, "99 of 10 classes"),
        (["--format", "torchscript"], 3, "holds no fp32 ONNX file to embed"),
        (["--format", "torchscrip"], 2, "unknown format"),
    ],
)
def test_what_does_not_fit_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    bundle = lively_bundle(tmp_path, colour_card(None))
    before = sorted(bundle.root.iterdir())
    assert main(["export", str(bundle.root), "--embedded", *words]) == code
    assert said in capsys.readouterr().err
    assert sorted(bundle.root.iterdir()) == before


def test_another_format_beside_an_onnx_file_that_is_there(plain: Plain) -> None:
    bundle = plain(colour_card(None))
    assert main(["export", str(bundle.root), "-f", "torchscript", "--embedded"]) == 0
    made = open_bundle(bundle.root).artifacts
    assert {a.format for a in made} == {"checkpoint", "onnx", "torchscript", "embedded"}


def test_verified_with_pixels_and_timed(
    embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judged like every file, images to be scaled down included; both runtimes are right."""
    bundle, artifact = embedded(colour_card(37))
    words = ["--format", "embedded", "--json"]
    assert main(["verify", str(bundle.root), *words, "--no-accuracy"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    verdicts = {row["subject"]["backend"]: row["verdict"] for row in rows}
    assert verdicts["ort-cpu"] == verdicts["openvino"] == "equivalent"
    assert {row["subject"]["artifact"] for row in rows} == {str(artifact.path)}
    timed = ["bench", str(bundle.root), *words, "-b", "ort-cpu", "--batch", "1", "--seconds", "0.1"]
    assert main(timed) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["status"], "not verified" in str(row["marks"])) == ("measured", False)


def test_verify_catches_a_resize_that_a_runtime_ignores(
    embedded: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why portable is the default: OpenVINO drops the antialias of a native Resize."""
    bundle, _ = embedded(colour_card(None), EmbeddedOptions(resize="native"))
    words = ["verify", str(bundle.root), "--format", "embedded", "--json", "--no-accuracy"]
    assert main(words) == 7
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {row["subject"]["backend"]: (row["verdict"], row["reason"]) for row in rows}
    assert found["openvino"][0] == "different"
    assert "so it is openvino that adds the error" in found["openvino"][1]


def test_predict_ships_what_preprocesses_itself(
    embedded: Embedded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    bundle, artifact = embedded(colour_card(None))
    Image.fromarray(images(60, 90)[0]).save(tmp_path / "a.png")
    answers = []
    for backend in ("ort-cpu", "torch"):
        words = ["predict", str(bundle.root), str(tmp_path / "a.png"), "-b", backend, "--json"]
        assert main(words) == 0
        answers += json.loads(capsys.readouterr().out)
    assert answers[0]["artifact"] == str(artifact.path)
    assert answers[1]["artifact"] == "checkpoint.safetensors"
    ours, torchs = (dict(answer["classes"]) for answer in answers)
    assert ours == pytest.approx(torchs, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_refused_by_the_runtime(embedded: Embedded, channels: int) -> None:
    bundle, artifact = embedded(colour_card(None))
    told = rf"invalid dimensions for input: image .*\s+index: 3 Got: {channels} Expected: 3"
    with pytest.raises(InvalidArgument, match=told):
        run(bundle, artifact, "image", images(40, 50, channels))
    with pytest.raises(InvalidArgument, match=r"input data type\. .*uint16.*expected: .*uint8"):
        run(bundle, artifact, "image", images(40, 50).astype(np.uint16))


@pytest.mark.parametrize("crop", [None, 37])
@pytest.mark.parametrize("shape", [(1, 0, 8, 3), (1, 8, 0, 3), (1, 0, 0, 3)])
def test_an_image_without_pixels_is_not_classified(
    embedded: Embedded, shape: tuple[int, ...], crop: int | None
) -> None:
    """Sums over nothing are 0, and the network would have an answer to that."""
    bundle, artifact = embedded(colour_card(crop))
    probabilities, logits = run(bundle, artifact, "image", np.zeros(shape, np.uint8))
    assert np.isnan(probabilities).all()
    assert np.isnan(logits).all()
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(bundle.path(artifact), "CPU")
    try:  # some processors' kernels refuse it, others give an answer of no rows
        answers = list(compiled([np.zeros(shape, np.uint8)]).values())
    except RuntimeError:
        return
    assert not any(answer.size for answer in answers)


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_an_image_without_pixels_in_other_precisions(plain: Plain, precision: Precision) -> None:
    """NaN is no level of int8: what is quantized gives a class, as docs/embedded-onnx.md says."""
    bundle = plain(colour_card(37))
    bundle, _, _ = convert(bundle, precision, CalibrationOptions(data="sample", images=8))
    bundle, artifact, _ = export_embedded(bundle, precision=precision)
    probabilities, _ = run(bundle, artifact, "image", np.zeros((1, 0, 5, 3), np.uint8))
    assert np.isnan(probabilities).all() == (precision != "int8")
    assert np.isfinite(probabilities).all() == (precision == "int8")


def test_a_batch_of_no_images_is_refused_by_the_runtime(embedded: Embedded) -> None:
    bundle, artifact = embedded(colour_card(None))
    with pytest.raises(Fail, match="right operand cannot broadcast"):
        run(bundle, artifact, "image", np.zeros((0, 40, 50, 3), np.uint8))


def test_the_native_resize_refuses_an_image_without_pixels(embedded: Embedded) -> None:
    bundle, artifact = embedded(colour_card(None), EmbeddedOptions(resize="native"))
    with pytest.raises(Fail, match=r"running Resize node.* Input dim is zero"):
        run(bundle, artifact, "image", np.zeros((1, 0, 8, 3), np.uint8))
