"""A cell with fakes that break in every way, its cold start in a real process."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from tests.bench.rows import report
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Device, Session
from vgg_deploy.backends.fake import FakeBackend, get_fake
from vgg_deploy.backends.session import HostSession, opened
from vgg_deploy.bench.answers import UNREAD
from vgg_deploy.bench.cell import NO_STREAM, bench_cell
from vgg_deploy.bench.cold import cold_start
from vgg_deploy.bench.measure import MeasureOptions
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import threads
from vgg_deploy.errors import MeasurementNotValid, ResourceLimit, UsageError
from vgg_deploy.pipeline.bench import bench_error
from vgg_deploy.results import Subject, Timing

FACTORY = "vgg_deploy.backends.fake:get_fake"
QUICK = MeasureOptions(min_seconds=0.01, max_seconds=0.2)


def images(size: int) -> Array:
    return np.zeros((size, 1, 32, 32), np.float32)


def rows_of(
    name: str,
    bundle: Bundle,
    make_input: Callable[[int], Array] = images,
    backend: FakeBackend | None = None,
) -> tuple[Timing, ...]:
    backend = backend or get_fake(name)
    artifact = bundle.checkpoint
    subject = Subject(
        artifact=str(artifact.path),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=artifact.precision,
        backend=name,
        device=backend.device,
    )
    return bench_cell(
        backend,
        artifact,
        bundle.root,
        subject,
        (1, 2),
        make_input,
        QUICK,
        factory=FACTORY,
    )


def test_every_batch_size_is_a_row_with_its_cold_start(tiny_bundle: Bundle) -> None:
    rows = rows_of("fake", tiny_bundle)
    assert [(row.batch, row.status) for row in rows] == [(1, "measured"), (2, "measured")]
    for row in rows:
        assert len(row.samples_ns) >= 64
        assert row.threads == threads()
        assert row.clock == "host"
        assert len(row.end_to_end_ns) >= 10
        assert row.import_s is not None
        assert row.load_s is not None
        assert row.first_s is not None
        assert row.peak_memory_bytes is not None
        assert 10e6 < row.peak_memory_bytes < 1e9  # Python and numpy, without torch


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fake-open", "could not open .*planted: cannot open; export the artifact again"),
        ("fake-run", "could not run .*planted: cannot run; export the artifact again"),
        ("fake-crash", "cold start ended with 70: nothing was said"),
    ],
)
def test_what_breaks_is_a_failed_row(tiny_bundle: Bundle, name: str, reason: str) -> None:
    rows = rows_of(name, tiny_bundle)
    assert [row.status for row in rows] == ["failed", "failed"]
    for row in rows:
        assert row.samples_ns == ()
        assert re.search(reason, row.reason), row.reason


def test_what_is_timed_is_what_a_call_answers(tiny_bundle: Bundle) -> None:
    """Planted: repeated runs leave another batch's answer; a call, which verify sees, is right."""
    for row in rows_of("fake-stale", tiny_bundle, lambda size: images(size) + 1):
        assert (row.status, row.samples_ns) == ("failed", ())
        assert row.reason.startswith(
            "the timed run answers otherwise than a call does: relative L2 1, limit 0.001"
        )
    backend = FakeBackend(fault="nan")
    reasons = {row.reason for row in rows_of("fake", tiny_bundle, backend=backend)}
    assert all("another shape, or NaN" in reason for reason in reasons)


class WithModes(HostSession):
    """As a GPU's session, but without a stream."""

    @property
    def modes(self) -> Mapping[str, str]:
        return {"cuda_graph": "on", "tf32": "off"}


@dataclass(frozen=True)
class OnGpu(FakeBackend):
    device: Device = "cuda"

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        return opened(self, artifact, root, lambda path: self._load(artifact, path), WithModes)


def test_the_remedy_fits_how_it_ran(tiny_bundle: Bundle) -> None:
    for backend, applies in ((OnGpu(fault="nan"), True), (FakeBackend(fault="nan"), False)):
        for row in rows_of("fake", tiny_bundle, backend=backend):
            assert ("--no-cuda-graph" in row.reason) == applies


def test_a_gpu_without_a_stream_is_marked_and_says_how_it_ran(tiny_bundle: Bundle) -> None:
    for row in rows_of("fake", tiny_bundle, backend=OnGpu()):
        assert row.status == "measured"
        assert NO_STREAM in row.marks
        assert row.modes == {"cuda_graph": "on", "tf32": "off"}
        assert row.threads is None
    for row in rows_of("fake", tiny_bundle):
        assert NO_STREAM not in row.marks
        assert row.modes == {}


class Muted:
    """A session that does not give back what a bound run computed."""

    def __init__(self, session: Session) -> None:
        self.session, self.bind, self.sync = session, session.bind, session.sync

    def __call__(self, batch: Array, /) -> Array:
        return self.session(batch)


@dataclass(frozen=True)
class Mute(FakeBackend):
    @contextmanager
    def open(self, artifact: Artifact, root: Path, /) -> Iterator[Session]:
        with super().open(artifact, root) as session:
            yield Muted(session)


def test_an_answer_that_cannot_be_read_is_marked(tiny_bundle: Bundle) -> None:
    assert all(UNREAD in row.marks for row in rows_of("fake", tiny_bundle, backend=Mute()))
    assert not any(UNREAD in row.marks for row in rows_of("fake", tiny_bundle))


def test_a_cold_start_that_takes_too_long_costs_its_figures_only(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = partial(cold_start, timeout_s=0.01)
    monkeypatch.setattr("vgg_deploy.bench.cell.cold_start", late)
    for row in rows_of("fake", tiny_bundle):
        assert row.status == "measured"
        assert row.samples_ns
        assert (row.load_s, row.first_s, row.peak_memory_bytes) == (None, None, None)
        assert row.reason == "no start-up figures: cold start took longer than 0.01 s"


def test_what_is_missing_is_skipped(tiny_bundle: Bundle) -> None:
    rows = rows_of("fake-missing", tiny_bundle)
    assert {(row.status, row.reason) for row in rows} == {("skipped", "no library; install one")}


def test_one_batch_size_that_breaks_does_not_stop_the_next(tiny_bundle: Bundle) -> None:
    def make_input(size: int) -> Array:
        return images(size) if size == 2 else images(size)[:, :, :31]

    first, second = rows_of("fake", tiny_bundle, make_input)
    assert first.status == "failed"
    assert first.reason.startswith("ValueError: input of shape (1, 1, 31, 32)")
    assert second.status == "measured"


def test_a_batch_that_no_memory_holds_does_not_stop_the_next(tiny_bundle: Bundle) -> None:
    def make_input(size: int) -> Array:
        return images(size) if size == 2 else images(10**12)

    first, second = rows_of("fake", tiny_bundle, make_input)
    assert (first.status, first.batch) == ("failed", 1)
    assert first.reason.startswith("not enough memory; use a smaller batch")
    assert second.status == "measured"


def test_a_cold_start_never_hangs(tiny_bundle: Bundle) -> None:
    start = time.monotonic()
    found = cold_start(
        FACTORY, "fake-slow", tiny_bundle.checkpoint, tiny_bundle.root, images(1), timeout_s=2
    )
    assert found.error == "cold start took longer than 2 s"
    assert time.monotonic() - start < 20


def test_a_refusal_in_the_child_keeps_its_remedy(tiny_bundle: Bundle) -> None:
    absent = replace(tiny_bundle.checkpoint, path=PurePosixPath("absent.safetensors"))
    found = cold_start(FACTORY, "fake", absent, tiny_bundle.root, images(1))
    assert found.error.endswith("absent.safetensors does not exist; check the path")


def test_a_library_missing_in_the_child(tiny_bundle: Bundle) -> None:
    found = cold_start(FACTORY, "fake-missing", tiny_bundle.checkpoint, tiny_bundle.root, images(1))
    assert found.error == "no library; install one"


def test_a_factory_that_does_not_exist_is_said(tiny_bundle: Bundle) -> None:
    found = cold_start("no_such:thing", "x", tiny_bundle.checkpoint, tiny_bundle.root, images(1))
    assert "No module named 'no_such'" in found.error


def test_unknown_fake() -> None:
    with pytest.raises(UsageError):
        get_fake("fak")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_cell_that_ran_out_of_disk_is_told_from_one_that_broke(
    tiny_bundle: Bundle, number: int
) -> None:
    def full(_size: int) -> Array:
        raise OSError(number, os.strerror(number))

    rows = rows_of("fake", tiny_bundle, full)
    assert [(row.status, row.ran_out) for row in rows] == [("failed", number == errno.ENOSPC)] * 2
    expected = ResourceLimit if number == errno.ENOSPC else MeasurementNotValid
    assert type(bench_error(report(rows))) is expected
    mixed = (rows[0], replace(rows[1], ran_out=False))
    assert isinstance(bench_error(report(mixed)), MeasurementNotValid)
