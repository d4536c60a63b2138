"""What a side becomes before the centre crop: to the pixel, however a runtime divides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from tests.export.conftest import Embedded
from tests.export.networks import named
from vgg_deploy.data.patterns import falls_short
from vgg_deploy.export.baked import _Builder, _resized
from vgg_deploy.spec import Preprocessing

Sides = NDArray[np.float32]
PAIRS = 200_000
LONGEST = 16_384


def in_ort(model: bytes, sides: Sides, others: Sides) -> Sides:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: Sides = session.run(None, {"side": sides, "other": others})[0]
    return result


def in_openvino(model: bytes, sides: Sides, others: Sides) -> Sides:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    result: Sides = compiled({"side": sides, "other": others})[0]
    return result


def division(resize: int) -> bytes:
    """The nodes of an embedded file alone, for many sides at once."""
    tape = Tape()
    build = _Builder(tape)
    side, other = (ir.val(name, ir.DataType.FLOAT, ("n",)) for name in ("side", "other"))
    p = Preprocessing(size=1, channels=1, mean=(0.0,), std=(1.0,), resize=resize)
    made = _resized(build, side, other, p)
    made.type, made.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(("n",))
    graph = ir.Graph(
        [side, other],
        [made],
        nodes=tape.nodes,
        initializers=tuple(build.constants.values()),
        opset_imports={"": 18},
        name="division",
    )
    content: bytes = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    return content


@pytest.mark.parametrize("run", [in_ort, in_openvino])
@pytest.mark.parametrize("resize", [1, 32, 37, 64, 224, 256, 299, 1000, 4096])
def test_every_side_is_exact(resize: int, run: Callable[[bytes, Sides, Sides], Sides]) -> None:
    random = np.random.default_rng(resize)
    sides, others = random.integers(1, LONGEST + 1, (2, PAIRS))
    alike = np.arange(1, LONGEST + 1)  # square images: the quotient is a whole number
    sides, others = np.concatenate([sides, alike]), np.concatenate([others, alike])
    want = resize * sides // np.minimum(sides, others)
    told = want < 1 << 24  # above, float32 has no such number
    have = run(division(resize), sides.astype(np.float32), others.astype(np.float32))
    np.testing.assert_array_equal(have[told], want[told])


def test_openvino_gives_what_onnx_runtime_gives(embedded: Embedded) -> None:
    """On all squares that a division by the reciprocal gets wrong, and their neighbours."""
    import openvino

    card = named("1x4-1x8-2x8")
    card = replace(card, preprocessing=replace(card.preprocessing, resize=64))
    bundle, artifact = embedded(card)
    path = bundle.path(artifact)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    hard = [side for side in range(30, 130) if falls_short(side, 64)]
    assert len(hard) >= 10
    for side in (*hard, 60, 64, 100):
        pixels = np.random.default_rng(side).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        (want,) = session.run(["logits"], {"image": pixels})
        np.testing.assert_allclose(
            compiled({"image": pixels})["logits"], want, rtol=0, atol=1e-5 * np.abs(want).max()
        )
