"""The least time of a network by counted work and measured ceilings; ceilings measured here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from vgg_deploy.bench import limits
from vgg_deploy.bench.layers import OTHER, layer_timings
from vgg_deploy.bench.limits import ceilings
from vgg_deploy.bench.roofline import limit_of
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.results import Ceiling
from vgg_deploy.spec import ModelSpec

LAYERS = vgg_layers(
    ModelSpec.named("vgg16", size=224, channels=3, classes=1000, head="torchvision")
)
# The project's reference machine: docs/LOG.md.
CEILINGS = (
    Ceiling(kind="gemm", precision="fp32", device="cpu", per_s=186e9, how="told"),
    Ceiling(kind="gemm", precision="int8", device="cpu", per_s=1e12, how="told"),
    Ceiling(kind="copy", precision=None, device="cpu", per_s=41e9, how="told"),
)


def test_a_broken_torch_costs_no_ceiling_of_numpys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise TypeError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert [ceiling.kind for ceiling in ceilings("cpu")] == ["gemm", "copy"]


def test_vgg16_at_batch_1_waits_for_memory_in_its_first_products_only() -> None:
    limit = limit_of(LAYERS, 1, "fp32", "cpu", CEILINGS)
    assert limit is not None
    binds = {bound.name: bound.binds for bound in limit.bounds}
    assert binds["fc6"] == binds["fc7"] == binds["fc8"] == "memory"
    convs = {name: b for name, b in binds.items() if name.startswith("conv")}
    assert len(convs) == 13
    assert set(convs.values()) == {"arithmetic"}
    assert limit.binds == "arithmetic"
    assert 0.05 < limit.memory_share < 0.15


def test_the_bounds_by_hand() -> None:
    limit = limit_of(LAYERS, 1, "fp32", "cpu", CEILINGS)
    assert limit is not None
    fc6 = next(b for b in limit.bounds if b.name == "fc6")
    weights = 25088 * 4096 + 4096
    assert fc6.operations == 2 * 25088 * 4096
    assert fc6.bytes == 4 * (weights + 25088 + 4096)
    assert fc6.memory_s == pytest.approx(fc6.bytes / 41e9)
    assert limit.seconds == pytest.approx(2 * 15.47e9 / 186e9, rel=0.12)


def test_a_batch_shares_the_weights() -> None:
    one, many = (limit_of(LAYERS, n, "fp32", "cpu", CEILINGS) for n in (1, 64))
    assert one is not None
    assert many is not None
    assert many.seconds < 64 * one.seconds
    assert next(b for b in many.bounds if b.name == "fc6").binds == "arithmetic"


def test_smaller_numbers_move_less() -> None:
    wide, narrow = (limit_of(LAYERS, 1, p, "cpu", CEILINGS) for p in ("fp32", "int8"))
    assert wide is not None
    assert narrow is not None
    assert narrow.bounds[0].bytes == wide.bounds[0].bytes / 4


def test_without_a_ceiling_there_is_no_limit() -> None:
    assert limit_of(LAYERS, 1, "bf16", "cpu", CEILINGS) is None
    assert limit_of(LAYERS, 1, "fp32", "cuda", CEILINGS) is None


def test_operators_are_layers_by_their_order() -> None:
    layers = vgg_layers(ModelSpec.named("1x4-1x8", size=32, channels=1, classes=10, fc_width=16))
    trace = [
        ("Conv", 10), ("MaxPool", 1), ("Conv", 20), ("MaxPool", 2), ("ReorderOutput", 5),
        ("FusedGemm", 30), ("FusedGemm", 40), ("Gemm", 50),
    ]  # fmt: skip
    found = {t.name: t.samples_ns for t in layer_timings(layers, [trace, trace])}
    assert found == {
        "conv1_1": (10, 10), "pool1": (1, 1), "conv2_1": (20, 20), "pool2": (2, 2),
        "fc6": (30, 30), "fc7": (40, 40), "fc8": (50, 50), OTHER: (5, 5),
    }  # fmt: skip
    with pytest.raises(ValueError, match="1 operators for 2 conv"):
        layer_timings(layers, [trace[1:]])


def test_an_eight_bit_network_has_its_pools() -> None:
    """ONNX Runtime calls those of an int8 file differently, but for the last one."""
    layers = vgg_layers(ModelSpec.named("1x4-1x8", size=32, channels=1, classes=10, fc_width=16))
    trace = [
        ("QuantizeLinear", 1), ("QLinearConv", 10), ("NhwcMaxPool", 2), ("QLinearConv", 20),
        ("MaxPool", 3), ("QGemm", 30), ("QGemm", 40), ("Gemm", 50),
    ]  # fmt: skip
    found = {t.name: t.samples_ns for t in layer_timings(layers, [trace])}
    assert (found["pool1"], found["pool2"], found[OTHER]) == ((2,), (3,), (1,))


def test_pools_that_a_runtime_fused_are_no_layers_of_their_own() -> None:
    layers = vgg_layers(ModelSpec.named("1x4-1x8", size=32, channels=1, classes=10, fc_width=16))
    trace = [("Conv", 10), ("Conv", 20), ("MaxPool", 2), ("Gemm", 30), ("Gemm", 40), ("Gemm", 50)]
    found = {t.name: t.samples_ns for t in layer_timings(layers, [trace])}
    assert "pool1" not in found
    assert found[OTHER] == (2,)


def test_ceilings_of_this_machine() -> None:
    found = {(c.kind, c.precision): c.per_s for c in ceilings("cpu")}
    assert 1e8 < found["gemm", "fp32"] < 1e14
    assert 1e7 < found["copy", None] < 1e13


def test_a_ceiling_beside_another_program_says_so() -> None:
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        found = ceilings("cpu")
    finally:
        for process in spin:
            process.kill()
            process.wait()
    assert [c for c in found if not any("not alone" in mark for mark in c.marks)] == []
    assert {c.kind for c in found} == {"gemm", "copy"}


@pytest.mark.parametrize(("device", "strides"), [("cuda", (1, 8)), ("cpu", (6, 1))])
def test_the_int8_product_is_laid_out_for_its_device(device: str, strides: tuple[int, int]) -> None:
    import torch

    seen: list[tuple[int, ...]] = []

    def on_cpu(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *words, **more: make(*words, **{**more, "device": "cpu"})

    on_host = SimpleNamespace(
        int8=torch.int8,
        int32=torch.int32,
        randint=on_cpu(torch.randint),
        empty=on_cpu(torch.empty),
        _int_mm=lambda a, b, out: seen.append((*b.shape, *b.stride())),
    )
    limits._int8_product(on_host, device, (4, 8, 6))()  # M, K, N
    assert seen == [(8, 6, *strides)]


@pytest.mark.parametrize(
    ("value", "capability", "measured"),
    [("0", (9, 0), False), ("", (9, 0), True), ("", (7, 5), False)],
)
def test_tf32_that_is_switched_off_or_absent_has_no_ceiling(
    value: str, capability: tuple[int, int], measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cuBLAS would do then is fp32, ten times slower."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    asked: list[str] = []
    monkeypatch.setattr(limits, "_gemm", lambda _library, precision, *_: asked.append(precision))
    gpu = SimpleNamespace(synchronize=None, get_device_capability=lambda: capability)
    limits._torch_gemms(SimpleNamespace(cuda=gpu), "cuda")
    assert ("tf32" in asked) == measured
    assert "fp32" in asked


def test_the_fp8_product_computes() -> None:
    import torch

    assert limits._fp8_product(torch, "cpu", (16, 32, 48))().shape == (16, 48)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("free", "copied"), [(64 << 20, 16), (1 << 40, 24)])
def test_a_gpu_copies_much_but_no_more_than_fits(
    free: int, copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 MiB take an H200 a tenth of a millisecond, of which launching is a tenth."""
    import torch

    assert limits._GPU_COPY_BYTES == 2 << 30
    monkeypatch.setattr(limits, "_GPU_COPY_BYTES", 24 << 20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, free))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert f"copy of {copied} MiB" in limits._torch_copy(torch, "cpu").how


def test_ceilings_that_cannot_be_had_are_none() -> None:
    assert ceilings("cpu", timeout_s=0.01) == ()
