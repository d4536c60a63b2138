"""What ONNX Runtime and OpenVINO are asked for, and that asking disturbs nobody."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import ModelProto

from tests.refitted import refit_onnx
from tests.trt.fake_cuda import FakeDriver
from vgg_deploy import cuda
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend, openvino
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.session import HostSession, Placed, translated
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import threads, usable_cores
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, ResourceLimit, os_errors
from vgg_deploy.export import export
from vgg_deploy.export.embedded import export_embedded


@pytest.fixture
def onnx(tiny_bundle: Bundle) -> tuple[Artifact, Path]:
    bundle, artifact, _ = export(tiny_bundle, "onnx")
    return artifact, bundle.root


def test_openvino_in_another_precision_is_refused(
    onnx: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bf16 = SimpleNamespace(get_type_name=lambda: "bf16")
    compiled = SimpleNamespace(get_property=lambda name: bf16)
    core = SimpleNamespace(compile_model=lambda *_: compiled)
    monkeypatch.setattr("openvino.Core", lambda: core)
    with (
        pytest.raises(BackendNotAvailable, match="bf16 although f32"),
        get_backend("openvino").open(*onnx),
    ):
        pass


def test_openvino_without_its_plugin_is_a_row_and_no_internal_error(
    onnx: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Cannot load library 'libopenvino_intel_cpu_plugin.so'\nmore")

    openvino._capabilities.cache_clear()
    monkeypatch.setattr("openvino.Core", lambda: SimpleNamespace(get_property=broken))
    half = replace(onnx[0], precision="bf16")
    missing = openvino.OpenVino().refuses(half)
    assert missing is not None
    assert missing.reason.endswith("'libopenvino_intel_cpu_plugin.so'")
    assert "reinstall openvino" in missing.remedy
    with pytest.raises(BackendNotAvailable), get_backend("openvino").open(half, onnx[1]):
        pass


def test_openvino_leaves_a_bf16_file_that_resizes(
    onnx: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hint is for the whole graph: measured, 0.062 off instead of 0.012."""
    monkeypatch.setattr(openvino, "_capabilities", lambda: frozenset({"BF16", "FP16"}))
    half = replace(onnx[0], precision="bf16")
    assert openvino.OpenVino().refuses(half) is None
    assert openvino.OpenVino().refuses(replace(half, precision="fp16", format="embedded")) is None
    missing = openvino.OpenVino().refuses(replace(half, format="embedded"))
    assert missing is not None
    assert "the preprocessing in bf16, too" in missing.reason


def test_onnxruntime_on_another_provider_is_refused(
    onnx: tuple[Artifact, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    with (
        pytest.raises(BackendNotAvailable, match="CUDAExecutionProvider instead"),
        get_backend("ort-cpu").open(*onnx),
    ):
        pass


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    code = (
        "import sys; from vgg_deploy.backends import get_backend\n"
        "assert get_backend('openvino').probe() is None\n"
        "import openvino\n"
        "found = [m for m in sys.modules if m.startswith('openvino_telemetry')]\n"
        "assert not found, found\n"
    )
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CI": ""}
    subprocess.run([sys.executable, "-c", code], env=os.environ | home, check=True, timeout=60)
    assert not list(tmp_path.rglob("*")), "a client id was left behind"


def test_the_table_imports_no_library() -> None:
    heavy = "{'torch', 'onnxruntime', 'openvino', 'onnx'}"
    code = f"import sys, vgg_deploy.backends; found = {heavy} & set(sys.modules); assert not found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("wanted", "given"), [("3", 3), ("", None)])
def test_threads_follow_the_environment(
    wanted: str, given: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert threads() == (given or usable_cores())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 12.25 GiB. GPU 0 has"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
        RuntimeError("cublasCreate failed: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=[
        "python",
        "torch",
        "torch on a GPU",
        "the system",
        "ONNX Runtime",
        "cuBLAS",
        "cuDNN 9",
        "C++",
    ],
)
def test_out_of_memory_is_a_limit_not_a_bad_file(error: Exception) -> None:
    with pytest.raises(ResourceLimit, match="not enough memory"), translated("could not run x"):
        raise error
    with pytest.raises(ResourceLimit), os_errors("write x"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("said", "told", "remedy"),
    [
        (
            "CUDA error: no kernel image is available for execution on the device\nSearch for x",
            "could not run x: CUDA error: no kernel image is available for execution on the device",
            "a build of the library for this GPU",
        ),
        (
            "onnxruntime/cuda_call.cc:129 CUDA failure 35: CUDA driver version is insufficient "
            "for CUDA runtime version ; GPU=0 ; hostname=x ; expr=cudaSetDevice(info_.device_id);",
            "x: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
            "a newer driver",
        ),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "x: CUDNN_STATUS_EXECUTION_FAILED", "Xid"),
    ],
    ids=["torch", "ONNX Runtime", "cuDNN"],
)
def test_a_gpu_that_fails_is_not_the_files_fault(said: str, told: str, remedy: str) -> None:
    with (
        pytest.raises(BackendNotAvailable) as caught,
        translated("could not run x", gpu=True),
    ):
        raise RuntimeError(said)
    assert caught.value.cause.endswith(told)
    assert remedy in caught.value.remedy
    with pytest.raises(RefusedInput), translated("could not run x"):
        raise RuntimeError(said)


class OnGpu(HostSession):
    on_gpu = True


def test_a_gpu_that_fails_while_the_output_is_read_is_not_the_files_fault(
    tiny_bundle: Bundle,
) -> None:
    """What was enqueued may fail as late as that."""

    def read() -> Array:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    checkpoint = tiny_bundle.checkpoint
    batch = np.zeros([1, *map(int, checkpoint.input.shape[1:])], np.float32)
    session = OnGpu("x", Path("y"), checkpoint, lambda _: Placed(lambda: None, read))
    session.bind(batch)
    with pytest.raises(BackendNotAvailable, match="illegal memory access"):
        session.output()


TORCH_SAID = (
    "CUDA out of memory. Tried to allocate 12.25 GiB. GPU 0 has a total capacity of 139.80 GiB of "
    "which 1.12 GiB is free. Process 7 has 138 GiB memory in use."
)
ORT_SAID = (
    "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9000"
)


@pytest.mark.parametrize(
    ("said", "gpu", "told"),
    [
        (TORCH_SAID, True, "x: out of GPU memory: 12.25 GiB wanted, 1.12 GiB free"),
        (ORT_SAID, True, "x: out of GPU memory: 9,000 bytes wanted, 1.07 of 1.07 GB are free"),
        (ORT_SAID, False, "x: not enough memory: 9,000 bytes wanted"),
        ("std::bad_alloc", False, "x: not enough memory"),
        ("CUBLAS_STATUS_ALLOC_FAILED", True, "x: out of GPU memory: more than there is wanted, 1."),
    ],
)
def test_how_much_memory_was_lacking_is_said(
    said: str, gpu: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "driver", FakeDriver)
    with pytest.raises(ResourceLimit) as caught, translated("x", gpu=gpu):
        raise RuntimeError(said)
    assert caught.value.cause.startswith(told)
    assert ("this GPU" in caught.value.remedy) == gpu


def test_a_librarys_message_becomes_one_line() -> None:
    with pytest.raises(RefusedInput) as caught, translated("could not open x"):
        raise RuntimeError("\n  first\nsecond")
    assert caught.value.cause == "could not open x: first"


def test_a_runtime_that_fails_in_a_call_is_translated(onnx: tuple[Artifact, Path]) -> None:
    from dataclasses import replace

    artifact, root = onnx
    lying = replace(artifact, input=replace(artifact.input, shape=("batch", 1, 16, 16)))
    for name in ("ort-cpu", "openvino"):
        with (
            get_backend(name).open(lying, root) as session,
            pytest.raises(RefusedInput, match=f"{name} could not run"),
        ):
            session(np.zeros((1, 1, 16, 16), np.float32))


@pytest.mark.parametrize("name", ["ort-cpu", "openvino"])
def test_an_embedded_file_without_logits_says_so(tiny_bundle: Bundle, name: str) -> None:
    bundle, artifact, _ = export_embedded(export(tiny_bundle, "onnx")[0])

    def rename(model: ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["scores" if value == "logits" else value for value in node.output]
            node.input[:] = ["scores" if value == "logits" else value for value in node.input]
        next(o for o in model.graph.output if o.name == "logits").name = "scores"

    refit_onnx(bundle.root, str(artifact.path), rename)
    with (
        pytest.raises(RefusedInput, match=r"none of its outputs is called logits: .*scores"),
        get_backend(name).open(artifact, bundle.root),
    ):
        pass


def test_a_file_of_two_inputs_says_so(onnx: tuple[Artifact, Path]) -> None:
    def widen(model: ModelProto) -> None:
        model.graph.input.add(name="other").CopyFrom(model.graph.input[0])
        model.graph.input[-1].name = "other"

    artifact, root = onnx
    refit_onnx(root, str(artifact.path), widen)
    with (
        pytest.raises(RefusedInput, match="it takes 2 inputs instead of one"),
        get_backend("ort-cpu").open(*onnx),
    ):
        pass
