"""The table of differences against the real names, and finding a library that is not in order."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trt.fake_tensorrt import LISTS, VERSIONS
from vgg_deploy import cuda
from vgg_deploy.backends import get_backend
from vgg_deploy.cuda import CudaRuntime
from vgg_deploy.errors import BackendNotAvailable, UsageError
from vgg_deploy.trt.flavour import TRAITS, load, row_for, version_of
from vgg_deploy.trt.profile import Profile, choose, parse_profiles


@pytest.mark.parametrize("name", VERSIONS)
def test_every_name_of_the_table_is_one_that_version_has(name: str) -> None:
    listed = json.loads((LISTS / f"{VERSIONS[name]}.json").read_text())
    flavour = "tensorrt_rtx" if name == "rtx" else "tensorrt"
    row = row_for(flavour, listed["version"])  # type: ignore[arg-type]
    enums = listed["enums"]
    assert set(row.network_flags) <= set(enums["NetworkDefinitionCreationFlag"])
    flags = {flag for names in row.options.values() for flag in names}
    assert flags | set(row.type_flags.values()) <= set(enums["BuilderFlag"])
    assert set(row.type_flags) <= {"FLOAT16", "INT8"}
    assert set(row.preview_features) <= set(enums["PreviewFeature"])
    kinds = enums.get("DynamicShapesKernelSpecializationStrategy", {})
    assert row.specialisation in ("", *kinds)
    assert row.device_memory in listed["classes"]["ICudaEngine"]
    known = {c.replace(".", "") for c in row.compute_capabilities}
    assert {f"SM{c}" for c in known} <= set(enums.get("ComputeCapability", ()))
    if row.compute_capabilities:
        assert len(known) == sum(name.startswith("SM") for name in enums["ComputeCapability"])
    missing = {"hardware-compatible", "version-compatible", "strip-weights"} - set(row.options)
    assert missing == set(row.refused), "what is not there is refused with a reason"


def test_the_committed_list_of_rtx_is_what_the_installed_bindings_have() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install vgg-deploy[rtx]")
    from scripts.trt_api import as_text, committed, listing

    found = listing("tensorrt_rtx_bindings")
    if found["version"] != "1.7.1.116":
        pytest.skip(f"the list is that of 1.7.1.116, installed is {found['version']}")
    assert as_text(found) == committed("rtx-1.7.1.116")


def test_versions_find_their_row() -> None:
    labels = {v: row_for("tensorrt", v).label for v in ("8.6.2.3", "9.3.0", "10.0.1", "11.4.0.106")}
    wanted = ["TensorRT 8.6", "TensorRT 8.6", "TensorRT 10", "TensorRT 11"]
    assert list(labels.values()) == wanted
    assert row_for("tensorrt_rtx", "1.7.1.116").label == "TensorRT-RTX"
    with pytest.raises(BackendNotAvailable, match=r"tensorrt 8\.5\.3 is too old: 8\.6 is"):
        row_for("tensorrt", "8.5.3")
    assert version_of("10.14.1.48.post1") == (10, 14, 1, 48)
    assert len({row.label for row in TRAITS}) == len(TRAITS)


def failing(errors: dict[str, Exception]) -> Callable[[str], Any]:
    real = importlib.import_module

    def import_module(name: str) -> Any:
        if name in errors:
            raise errors[name]
        return real(name)

    return import_module


MISMATCH = (
    "Python version mismatch: module was compiled for Python 3.10, but the interpreter version "
    "is incompatible: 3.11.7 (main)"
)


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (ModuleNotFoundError("no", name="tensorrt"), "tensorrt is not installed", "vgg-deploy[t"),
        (ImportError(MISMATCH), "tensorrt is built for Python 3.10", "with Python 3.10"),
        (ImportError("libnvinfer.so.11: no such file\nx"), "libnvinfer.so.11: no", "vgg-deploy[t"),
        (ModuleNotFoundError("No module named 'y'", name="y"), "No module named 'y'", "vgg-de"),
    ],
)
def test_a_library_that_is_not_in_order(
    error: Exception, cause: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", failing({"tensorrt": error}))
    with pytest.raises(BackendNotAvailable) as caught:
        load("tensorrt")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 10


def test_a_binding_for_another_python_says_which_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the real one of ``tensorrt==8.6.0`` under Python 3.11 and 3.12."""
    (tmp_path / "tensorrt.py").write_text(f"raise ImportError({MISMATCH!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendNotAvailable, match=r"built for Python 3\.10"):
        load("tensorrt")


def test_the_meta_package_of_rtx_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text("__version__ = '1.9.0'\n")
    monkeypatch.syspath_prepend(tmp_path)
    kept = sys.modules.pop("tensorrt_rtx", None)
    try:
        assert load("tensorrt_rtx").version == "1.9.0"
    finally:
        del sys.modules["tensorrt_rtx"]
        if kept is not None:
            sys.modules["tensorrt_rtx"] = kept


def test_the_cuda_calls_are_ones_that_the_bindings_have() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    import re

    source = Path(cuda.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'_call\(\s*"(\w+)"|api\.(\w+)', source))
    called = {first or second for first, second in names}
    assert len(called) > 20
    assert {name for name in called if not hasattr(runtime, name)} == set()


def test_without_a_driver_the_backends_say_so() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendNotAvailable) as caught:
        CudaRuntime(runtime).gpu()
    assert "nvidia-smi" in caught.value.remedy
    for name in ("trt", "trt-rtx"):
        missing = get_backend(name).probe()
        assert missing is not None
        assert missing.reason == caught.value.cause
    with pytest.raises(BackendNotAvailable, match="CUDA"):
        CudaRuntime(runtime).allocate(1)


@pytest.mark.parametrize(
    ("batch", "index"), [(1, 0), (2, 1), (8, 1), (64, 2), (20, 1), (30, 2), (100, None)]
)
def test_the_profile_tuned_nearest_is_chosen(batch: int, index: int | None) -> None:
    profiles = (Profile(1, 1, 1), Profile(2, 8, 64), Profile(16, 64, 64))
    assert choose(profiles, batch) == index


def test_profiles_as_they_are_written() -> None:
    assert parse_profiles(["1:8:64", "4", "1:8:64"]) == (Profile(1, 8, 64), Profile(4, 4, 4))
    assert parse_profiles([]) == (Profile(1, 8, 64),)
    for bad in ("", "1:8", "a", "1:8:64:128", "-1", "9999999999", "0:1:2", "1:70000:70000"):
        with pytest.raises(UsageError, match="batch profile"):
            parse_profiles([bad])
