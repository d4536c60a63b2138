"""Every ONNX file that ONNX Runtime runs here is profiled as it runs, or it is said why not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.export.networks import lively_bundle
from tests.faults.bases import card
from tests.heard import Heard
from vgg_deploy.backends.ort_profile import operator_times
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.benchinput import make_input
from vgg_deploy.pipeline.cells import Selection, plan
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.profiles import PROFILED, RUNS, profiles
from vgg_deploy.precision.options import CalibrationOptions

ALL = ("fp16", "int8", "fp8")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("every") / "bundle"
    bundle = lively_bundle(root, card("1x8-1x16-3x32"))
    images = CalibrationOptions(data="sample", images=32)
    return export_bundle(bundle, ("onnx",), precisions=ALL, calibration=images)[0]


def test_every_precision_has_a_profile(every: Bundle) -> None:
    told = Heard()
    found = profiles(every, plan(every, Selection(backends=(PROFILED,))), 2, told)
    assert not told.said
    assert {p.subject.precision for p in found} == {"fp32", *ALL}
    for profile in found:
        times = {layer.name: layer.samples_ns for layer in profile.layers}
        assert {len(samples) for samples in times.values()} == {RUNS}, profile.subject.id
        assert sum(name.startswith("conv") for name in times) == 5, profile.subject.id


def test_each_run_has_the_same_operators_and_is_told(every: Bundle) -> None:
    artifact = next(a for a in every.artifacts if a.format == "onnx" and a.precision == "fp8")
    told: list[int] = []
    traces = operator_times(
        every.path(artifact), "fp8", make_input(every, 1, artifact), 3, lambda: told.append(1)
    )
    assert len(told) == len(traces) == 3
    names = [[name for name, _ in trace] for trace in traces]
    assert names[0] == names[1] == names[2]
    assert names[0].count("Conv") == 5
    assert all(ns >= 0 for trace in traces for _, ns in trace)
    assert any(ns > 0 for trace in traces for _, ns in trace)


def test_without_room_for_the_profile_the_rest_goes_on(
    onnx_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    told = Heard()
    assert profiles(onnx_bundle, plan(onnx_bundle, Selection(backends=(PROFILED,))), 1, told) == ()
    assert [line.startswith("bench: no profile of ort-cpu:") for line in told.said] == [True]
