"""ort-cuda and ort-trt: what is asked for, what is missing by name, and never a CPU number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.conftest import make_bundle, make_card
from tests.trt.fake_cuda import FakeDriver
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend, ort_gpu
from vgg_deploy.backends.base import Array, Described, OnStream, Selective
from vgg_deploy.backends.ort_gpu import OrtGpu, missing_library
from vgg_deploy.backends.ort_network import (
    OPTIONS,
    cuda_options,
    open_network,
    require_provider,
    tensorrt_options,
)
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.cuda import TF32_VARIABLE
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit
from vgg_deploy.export import export

CUDA, TRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
BATCH = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = make_bundle(tmp_path_factory.mktemp("ort_gpu") / "bundle", make_card())
    return export(made, "onnx")[0]


@pytest.fixture
def onnx(bundle: Bundle) -> tuple[Artifact, Path]:
    artifact = bundle.find("onnx")
    assert artifact is not None
    return artifact, bundle.root


def test_cuda_is_asked_for_its_fastest_and_tf32_is_explicit() -> None:
    plain = cuda_options("fp32", 7, cuda_graph=True)
    assert plain["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert plain["enable_cuda_graph"] == "1"
    assert plain["user_compute_stream"] == "7"
    assert (plain["use_tf32"], plain["prefer_nhwc"]) == ("0", "0")
    assert cuda_options("tf32", 7, cuda_graph=False)["use_tf32"] == "1"
    assert cuda_options("bf16", 7, cuda_graph=False)["prefer_nhwc"] == "0", "no such convolution"
    half = cuda_options("fp16", 7, cuda_graph=False)
    assert (half["prefer_nhwc"], half["enable_cuda_graph"], half["use_tf32"]) == ("1", "0", "0")


@pytest.mark.parametrize(
    ("precision", "on"),
    [("fp32", set()), ("fp16", {"fp16"}), ("bf16", {"bf16"}), ("int8", {"int8", "fp16"})],
)
def test_tensorrt_gets_the_files_precision(precision: Any, on: set[str]) -> None:
    options = tensorrt_options(precision, 7, cuda_graph=True)
    found = {k for k in ("fp16", "bf16", "int8") if options.get(f"trt_{k}_enable") == "True"}
    assert found == on
    assert options["trt_cuda_graph_enable"] == "True"
    switches = {value for name, value in options.items() if name.endswith("_enable")}
    assert switches <= {"True", "False"}, "it refuses 1 and 0"
    assert ("trt_bf16_enable" in options) == ("bf16" in on), "before 1.23 it refuses the name"


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="a GPU build is installed")
@pytest.mark.parametrize("name", ["ort-cuda", "ort-trt"])
def test_the_cpu_build_is_named(name: str, onnx: tuple[Artifact, Path]) -> None:
    missing = get_backend(name).probe()
    assert missing is not None
    assert "this build of onnxruntime has no" in missing.reason
    assert "vgg-deploy[gpu]" in missing.remedy
    with pytest.raises(BackendNotAvailable, match=name), get_backend(name).open(*onnx):
        pass


@pytest.mark.parametrize(
    ("library", "provider", "remedy"),
    [
        ("libcudnn.so.9", CUDA, "onnxruntime-gpu[cuda,cudnn]"),
        ("libcurand.so.10", CUDA, "onnxruntime-gpu[cuda,cudnn]"),
        ("libcuda.so.1", CUDA, "driver"),
        ("libcublasLt.so.13", CUDA, "onnxruntime-gpu[cuda,cudnn]"),
        (
            "libcurand.so.10",
            TRT,
            "onnxruntime-gpu[cuda,cudnn]",
        ),  # its buffers are the CUDA provider's
        ("libnvinfer.so.10", TRT, "tensorrt>=10,<11"),
    ],
)
def test_a_missing_library_is_named(
    library: str, provider: Any, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The linker names what it lacks, and the provider itself is never loaded by us.

    Its start-up code asks for a host that ONNX Runtime has not set yet: the process would die.
    """
    asked = []

    def load(name: str) -> str:
        asked.append(name)
        lacks = f"{library}: cannot open shared object file: No such file or directory"
        return lacks if name == library else ""

    monkeypatch.setattr(ort_gpu, "load_library", load)
    links = {
        "cuda": ("libcublasLt.so.13", "libcurand.so.10", "libcuda.so.1"),
        "tensorrt": ("libnvinfer.so.10", "libc.so.6"),
    }
    monkeypatch.setattr(ort_gpu, "needed_by", lambda path: links[path.stem.rpartition("_")[2]])
    assert "is not there" in str(missing_library(tmp_path, provider))
    for kind in ("cuda", "tensorrt"):
        (tmp_path / f"libonnxruntime_providers_{kind}.so").touch()
    missing = missing_library(tmp_path, provider)
    assert missing is not None
    assert library in missing.reason
    assert remedy in missing.remedy
    assert not [name for name in asked if "onnxruntime" in name]


def test_with_all_libraries_the_gpu_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_gpu, "missing_library", lambda folder, provider: None)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TRT, CUDA, CPU])
    assert OrtGpu(driver=FakeDriver).probe() is None
    missing = OrtGpu(driver=lambda: FakeDriver(missing="no NVIDIA GPU is visible")).probe()
    assert missing is not None
    assert missing.reason == "no NVIDIA GPU is visible"


@pytest.mark.parametrize(
    ("name", "precision", "tf32", "refused"),
    [
        ("ort-cuda", "fp32", "", ""),
        ("ort-cuda", "fp16", "", ""),
        ("ort-cuda", "bf16", "", "no MaxPool for bf16"),
        ("ort-cuda", "int8", "", "Q/DQ in fp32"),
        ("ort-cuda", "fp8", "", "Q/DQ in fp32"),
        ("ort-trt", "fp32", "", "cannot switch TF32 off"),
        ("ort-trt", "fp32", "0", ""),
        ("ort-trt", "fp16", "", ""),
        ("ort-trt", "bf16", "", ""),
        ("ort-trt", "int8", "", ""),
        ("ort-trt", "fp8", "", "no switch for fp8"),
    ],
)
def test_what_would_be_another_precision_is_refused(
    onnx: tuple[Artifact, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    precision: Any,
    tf32: str,
    refused: str,
) -> None:
    monkeypatch.setenv(TF32_VARIABLE, tf32)
    backend = get_backend(name)
    assert isinstance(backend, Selective)
    missing = backend.refuses(replace(onnx[0], precision=precision))
    assert (missing is not None) == bool(refused)
    assert refused in (missing.reason if missing else "")


def test_onnxruntime_really_refuses_to_fall_back(onnx: tuple[Artifact, Path]) -> None:
    """Its own behaviour, with whichever build is here: no GPU provider, no session."""
    artifact, root = onnx
    driver = FakeDriver()
    if get_backend("ort-cuda").probe() is None:
        pytest.skip("the provider would start, and take the fake's stream for one of CUDA's")
    with pytest.raises(BackendNotAvailable, match=CUDA):
        open_network(root / artifact.path, artifact, CUDA, driver, cuda_graph=True)
    assert driver.left == 0, "the stream was given back"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED in CUDAExecutionProvider", ResourceLimit),
        (
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; CUDAExecutionProvider",
            ResourceLimit,
        ),
        ("CUDAExecutionProvider: invalid device ordinal", BackendNotAvailable),
    ],
)
def test_a_full_gpu_is_no_provider_that_cannot_start(
    said: str, kind: type[Exception], onnx: tuple[Artifact, Path], on_host: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(ort, "InferenceSession", breaks)
    with pytest.raises(kind), OrtGpu(driver=FakeDriver).open(*onnx):
        pass


def node(name: str) -> Any:
    return SimpleNamespace(op_type="Conv", name=name)


def session_on(first: str, *parts: tuple[str, list[str]]) -> Any:
    found = [
        SimpleNamespace(ep_name=ep, get_nodes=lambda names=names: [node(n) for n in names])
        for ep, names in parts
    ]
    return SimpleNamespace(
        get_providers=lambda: [first, CPU], get_provider_graph_assignment_info=lambda: found
    )


def test_every_node_must_be_on_the_provider() -> None:
    require_provider(session_on(CUDA, (CUDA, ["a", "b"])), CUDA)
    with pytest.raises(BackendNotAvailable, match="instead of CUDA"):
        require_provider(session_on(CPU, (CPU, ["a"])), CUDA)
    with pytest.raises(BackendNotAvailable, match=r"1 nodes are not on CUDA.*Conv b on CPU"):
        require_provider(session_on(CUDA, (CUDA, ["a"]), (CPU, ["b"])), CUDA)


def test_the_check_of_nodes_sees_the_real_thing(onnx: tuple[Artifact, Path]) -> None:
    artifact, root = onnx
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(str(root / artifact.path), options, providers=[CPU])
    require_provider(session, CPU)
    with pytest.raises(BackendNotAvailable, match=f"runs on {CPU} instead of"):
        require_provider(session, CUDA)


@dataclass
class HostValue:
    """onnxruntime's ``OrtValue`` on a device, kept in host memory."""

    array: Array

    def numpy(self) -> Array:
        copied: Array = self.array.copy()
        return copied


@dataclass
class HostProvider:
    """Runs what is bound with the CPU provider, and keeps what it was asked."""

    inner: Any
    graphs: list[str] = field(default_factory=list)
    asynchronous: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def io_binding(self) -> Any:
        bound = SimpleNamespace()
        bound.bind_ortvalue_input = lambda name, value: setattr(bound, "given", (name, value))
        bound.bind_ortvalue_output = lambda name, value: setattr(bound, "wanted", (name, value))
        return bound

    def run_with_iobinding(self, bound: Any, options: Any) -> None:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self.asynchronous.append(
            options.get_run_config_entry("disable_synchronize_execution_providers")
        )
        name, given = bound.given
        wanted, room = bound.wanted
        room.array[:] = self.inner.run([wanted], {name: given.array})[0]


@pytest.fixture
def on_host(onnx: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """``ort-cuda`` as a whole, with the CPU provider behind the GPU's names."""
    providers: list[HostProvider] = []
    real = ort.InferenceSession

    def session(path: str, options: Any, providers: Any, enable_fallback: int) -> HostProvider:
        assert enable_fallback == 0
        assert [name for name, _ in providers] in ([CUDA], [TRT])
        kept.append(HostProvider(real(path, providers=[CPU])))
        return kept[-1]

    kept = providers
    monkeypatch.setattr(ort_gpu, "missing_library", lambda folder, provider: None)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", session)
    monkeypatch.setattr(HostProvider, "get_providers", lambda self: [CUDA], raising=False)
    monkeypatch.setattr(
        HostProvider, "get_provider_graph_assignment_info", lambda self: [], raising=False
    )
    monkeypatch.setattr(
        ort,
        "OrtValue",
        SimpleNamespace(
            ortvalue_from_numpy=lambda array, *_: HostValue(array.copy()),
            ortvalue_from_shape_and_type=lambda shape, kind, *_: HostValue(np.zeros(shape, kind)),
        ),
    )
    return lambda: kept[-1]


def test_bound_runs_are_captured_each_under_its_own_number(
    bundle: Bundle, onnx: tuple[Artifact, Path], on_host: Callable[[], Any]
) -> None:
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    driver = FakeDriver()
    with OrtGpu(driver=lambda: driver).open(*onnx) as session:
        assert isinstance(session, OnStream)
        assert isinstance(session, Described)
        assert session.stream in driver.queues
        assert session.modes == {"cuda_graph": "off", "tf32": "off"}
        np.testing.assert_allclose(session(BATCH), exact, atol=1e-4)
        assert on_host().graphs == ["-1"], "a call is no graph"
        first = session.bind(BATCH[:2])
        assert on_host().graphs[1:] == ["1", "1", "1"]
        first()
        session(BATCH)
        session.sync()
        np.testing.assert_allclose(session.output(), exact[:2], atol=1e-4)  # type: ignore[attr-defined]
        session.bind(BATCH[:1])
        assert on_host().graphs[-1] == "2", "a stale graph would replay other addresses"
        assert session.modes["cuda_graph"] == "on"
        assert set(on_host().asynchronous) == {"1"}
    assert driver.left == 0
    with pytest.raises(RuntimeError, match="closed"):
        session.sync()


def test_without_graphs_every_run_is_plain(
    onnx: tuple[Artifact, Path], on_host: Callable[[], Any]
) -> None:
    with OrtGpu(cuda_graph=False, driver=FakeDriver).open(*onnx) as session:
        session.bind(BATCH)()
        assert set(on_host().graphs) == {"-1"}


def test_tensorrts_provider_has_one_graph_and_is_asked_for_none(
    onnx: tuple[Artifact, Path], on_host: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostProvider, "get_providers", lambda self: [TRT], raising=False)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TRT, CPU])
    monkeypatch.setenv(TF32_VARIABLE, "0")
    backend = get_backend("ort-trt")
    assert isinstance(backend, OrtGpu)
    with replace(backend, driver=FakeDriver).open(*onnx) as session:
        session.bind(BATCH)()
        assert isinstance(session, Described)
        assert session.modes["cuda_graph"] == "off"
    assert set(on_host().graphs) == {"-1"}, "a call would replay what another batch captured"


def test_every_provider_has_options() -> None:
    for name in ("ort-cuda", "ort-trt"):
        backend = get_backend(name)
        assert isinstance(backend, OrtGpu)
        assert backend.provider in OPTIONS


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["ort-cuda", "ort-trt"])
def test_on_a_gpu(name: str, bundle: Bundle, onnx: tuple[Artifact, Path]) -> None:
    backend = get_backend(name)
    if missing := backend.probe() or backend.refuses(onnx[0]):  # type: ignore[attr-defined]
        pytest.skip(missing.reason)
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    with backend.open(*onnx) as session:
        for size in (1, 3):
            run = session.bind(BATCH[:size])
            np.testing.assert_allclose(session(BATCH[:size]), exact[:size], atol=1e-3)
            run()
            session.sync()
            found: Array = session.output()  # type: ignore[attr-defined]
            np.testing.assert_allclose(found, exact[:size], atol=1e-3)
