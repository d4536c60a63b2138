"""No name on the command line is without a row: it has one, or the command is refused."""

from __future__ import annotations

import pytest

from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import UsageError
from vgg_deploy.pipeline.cells import Selection, plan


@pytest.mark.parametrize(
    ("backends", "formats", "cause"),
    [
        (("ort-cpu", "trt"), ("onnx",), "no onnx file is for trt"),
        (("ort-cpu", "torch"), ("onnx", "torchscript"), "no onnx or torchscript file is for torch"),
        (("ort-cpu",), ("onnx", "torchscript"), "no torchscript file is for ort-cpu"),
        (("ort-cpu", "openvino"), ("checkpoint",), "no checkpoint file is for ort-cpu"),
    ],
)
def test_a_name_without_a_pair_is_refused(
    backends: tuple[str, ...], formats: tuple[Format, ...], cause: str, two_formats: Bundle
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(two_formats, Selection(backends=backends, formats=formats))
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("backends", "formats", "pairs"),
    [
        (("ort-cpu", "torch"), ("onnx", "checkpoint"), {"ort-cpu onnx", "torch checkpoint"}),
        (("torch",), ("checkpoint",), {"torch checkpoint"}),
        (("ort-cpu",), (), {"ort-cpu onnx"}),
    ],
)
def test_every_name_with_one_has_a_row(
    backends: tuple[str, ...], formats: tuple[Format, ...], pairs: set[str], two_formats: Bundle
) -> None:
    cells = plan(two_formats, Selection(backends=backends, formats=formats))
    assert {f"{c.subject.backend} {c.subject.format}" for c in cells} == pairs


def test_where_no_backend_is_named_none_is_refused(two_formats: Bundle) -> None:
    cells = plan(two_formats, Selection(formats=("torchscript",)))
    assert "torchscript" in {cell.backend.name for cell in cells}
    assert {cell.subject.format for cell in cells} == {"torchscript"}
