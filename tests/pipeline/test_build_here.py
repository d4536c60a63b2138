"""The main job's engines: with what is here, for what is here, and never without a word."""

from __future__ import annotations

import sys

import pytest

from tests.heard import Heard
from tests.trt.fake_cuda import H100
from tests.trt.helpers import fake_of, place_of
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.pipeline import build
from vgg_deploy.pipeline.build import build_here
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.place import Place


def test_without_a_gpu_an_engine_is_built_for_a_named_one(tiny_bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX: pip install [rtx]")
    bundle, _, _ = export_bundle(tiny_bundle, ("onnx",))
    heard = Heard()
    built = build_here(bundle, ("fp32",), heard)
    (engine,) = [a for a in built.artifacts if a.format == "engine"]
    assert engine.target is not None
    assert engine.target.flavour.startswith("tensorrt")
    built.check([engine])
    again = build_here(built, ("fp32",), heard)
    assert "reused" in heard.said[-1]
    assert again.artifacts == built.artifacts


def test_no_engine_is_built_for_a_gpu_that_is_not_the_one_here(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named GPU stands in for one that is absent, not for one that RTX does not know."""

    def find(options: BuildOptions) -> Place:
        if options.flavour == "tensorrt":
            raise BackendNotAvailable("tensorrt is not installed", "pip install it")
        return place_of(fake_of("rtx", H100))

    monkeypatch.setattr(build, "find_place", find)
    heard = Heard()
    assert build_here(tiny_bundle, ("fp32",), heard) == tiny_bundle
    assert heard.said == ["skipped: engines: tensorrt is not installed; pip install it"]


def test_without_any_tensorrt_a_line_says_so(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)  # Python's way to make an import fail
    heard = Heard()
    assert build_here(tiny_bundle, ("fp32",), heard) == tiny_bundle
    assert heard.said[-1].startswith("skipped: engines: tensorrt")
    assert "pip install" in heard.said[-1]
