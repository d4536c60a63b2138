"""The clock and the probe on a real GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vgg_deploy.bench.clock import CudaStopwatch, stopwatch_for
from vgg_deploy.bench.limits import ceilings
from vgg_deploy.bench.measure import Instruments, MeasureOptions, measure
from vgg_deploy.bench.nvml import NvmlProbe, probe_for

pytestmark = pytest.mark.gpu


class Product:
    """A large matrix product on a stream of its own."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.torch_stream = torch.cuda.Stream()
        self.stream = int(self.torch_stream.cuda_stream)
        self.a = torch.rand(4096, 4096, device="cuda")

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        self.bind(batch)()
        self.sync()
        return batch

    def bind(self, _batch: NDArray[Any], /) -> Callable[[], None]:
        def run() -> None:
            with self.torch.cuda.stream(self.torch_stream):
                self.torch.matmul(self.a, self.a)

        return run

    def sync(self) -> None:
        self.torch_stream.synchronize()


def test_events_agree_with_the_host_on_a_long_run() -> None:
    session = Product()
    watch = stopwatch_for(session, "cuda")
    assert isinstance(watch, CudaStopwatch)
    run = session.bind(np.zeros(1))
    for _ in range(20):
        watch.lap(run, session.sync)
    begin = time.perf_counter_ns()
    laps = [watch.lap(run, session.sync) for _ in range(50)]
    host = time.perf_counter_ns() - begin
    assert 0.5 * host < sum(laps) <= host


def test_a_measurement_with_its_driver_readings_and_ceilings() -> None:
    probe = probe_for("cuda")
    assert isinstance(probe, NvmlProbe)
    session = Product()
    using = Instruments(stopwatch=stopwatch_for(session, "cuda"), probe=probe)
    found = measure(session, np.zeros(1), MeasureOptions(min_seconds=0.5), using)
    assert found.clock == "cuda-events"
    assert found.burst_runs > 0
    assert found.gpu is not None
    assert found.gpu.sm_mhz[1] > 0
    rates = {(c.kind, c.precision): c.per_s for c in ceilings("cuda")}
    assert rates["gemm", "fp16"] > rates["gemm", "fp32"]
    assert rates["copy", None] > 1e10
