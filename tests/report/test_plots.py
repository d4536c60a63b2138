from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from tests.report.samples import bench_report, replaced, subject, verify_report
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.report import tradeoff_plot
from vgg_deploy.report.canvas import power_label, spread, wide
from vgg_deploy.report.judged import digests
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.plots import (
    Plot,
    accuracy_latency_plot,
    distribution_plot,
    error_plot,
    latency_plot,
    learning_plot,
    throughput_plot,
)
from vgg_deploy.results import BenchReport, Figure, Subject, Timing

METRICS = [{"epoch": e, "loss": 1 / e, "train_accuracy": 0.8, "test_accuracy": 0.7} for e in (1, 2)]
TEXT = "{http://www.w3.org/2000/svg}text"


def all_plots(bundle: Bundle) -> list[Plot]:
    verify, bench = verify_report(bundle), bench_report(bundle)
    found = [
        error_plot(verify),
        latency_plot(bench),
        throughput_plot(bench),
        distribution_plot(bench),
        accuracy_latency_plot(verify, bench),
        learning_plot(METRICS),
    ]
    plots = [plot for plot in found if plot is not None]
    assert len(plots) == len(found)
    return plots


def texts(plot: Plot) -> list[str]:
    return ["".join(e.itertext()).strip() for e in ET.fromstring(plot.svg).iter(TEXT)]  # noqa: S314


def test_every_plot_is_one_labelled_well_formed_image(sample: Bundle) -> None:
    for plot in all_plots(sample):
        root = ET.fromstring(plot.svg)  # noqa: S314 - our own
        assert root.get("role") == "img"
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        assert all(name and name.startswith(plot.name) for name in ids)
        assert set((root.get("aria-labelledby") or "").split()) <= set(ids)
        assert plot.description in (e.text for e in root)


def test_colours_come_from_the_page(sample: Bundle) -> None:
    for plot in all_plots(sample):
        bare = re.sub(r"var\([^)]*\)", "", plot.svg)
        assert not re.search(r"#[0-9a-fA-F]{6}\b", bare), plot.name
        assert "var(--muted" in plot.svg


def test_nothing_points_outside(sample: Bundle) -> None:
    for plot in all_plots(sample):
        without_namespace = plot.svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http" not in without_namespace
        assert "metadata" not in plot.svg


def test_equal_data_gives_equal_bytes(sample: Bundle) -> None:
    assert [p.svg for p in all_plots(sample)] == [p.svg for p in all_plots(sample)]


def test_settings_of_matplotlib_are_left_alone(sample: Bundle) -> None:
    names = ("svg.fonttype", "svg.hashsalt", "text.parse_math", "font.family", "font.size")
    settings: Any = mpl.rcParams
    before = [settings[name] for name in names]
    pyplot = "matplotlib.pyplot" in sys.modules
    all_plots(sample)
    assert [settings[name] for name in names] == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_no_backend_vanishes_from_the_error_plot(sample: Bundle) -> None:
    plot = error_plot(verify_report(sample))
    assert plot is not None
    said = texts(plot)
    assert "ort-cuda fp32" in said
    assert "skipped" in said
    assert "failed" in said
    assert "0.0214" in said
    assert "ort-cpu fp16: 0.0214 ≤ 0.00300" in plot.description


def test_stale_rows_are_marked(sample: Bundle) -> None:
    current = digests(replaced(sample, "onnx"))
    for plot in (
        error_plot(verify_report(sample), current),
        latency_plot(bench_report(sample), current),
    ):
        assert plot is not None
        assert any(text.endswith("stale") for text in texts(plot))


def test_what_is_stale_or_marked_is_said_without_colour(sample: Bundle) -> None:
    current = digests(replaced(sample, "onnx"))
    verify, bench = verify_report(sample), bench_report(sample)
    error, old = error_plot(verify, current), latency_plot(bench, current)
    assert error is not None
    assert old is not None
    assert re.search(r"openvino fp32: \S+ ≤ \S+, stale", error.description)
    assert re.search(r"openvino \S+ ms, stale", old.description)
    assert "see remark" not in old.description.split("Batch 32")[0]
    assert re.search(r"torch \S+ ms, see remark", old.description)  # noisy at batch 32
    assert "<pattern" in old.svg, "stripes"
    plain = tuple(replace(row, marks=()) for row in bench.rows)
    unmarked = latency_plot(replace(bench, rows=plain))
    assert unmarked is not None
    assert "<pattern" not in unmarked.svg


def test_marked_dots_have_another_shape(sample: Bundle) -> None:
    """On a log scale there are no bars to stripe."""
    bench = bench_report(sample)
    slow = replace(bench.rows[0], samples_ns=tuple(s * 1000 for s in bench.rows[0].samples_ns))
    dots = [replace(row, marks=()) for row in (slow, *bench.rows[1:5])]
    marked = [replace(dots[0], marks=("noisy",)), *dots[1:]]
    svgs = []
    for rows in (dots, marked):
        plot = latency_plot(replace(bench, rows=tuple(rows)))
        assert plot is not None
        svgs.append(plot.svg.replace("--warn", "--data").replace("#80590a", "#2f6690"))
    assert svgs[0].count("<use") == svgs[1].count("<use")
    assert _shapes(svgs[0]) == _shapes(svgs[1]) - 1


def _shapes(svg: str) -> int:
    """How many unlike markers are drawn in the colour of data."""
    return len(set(re.findall(r'<use href="#latency-(m[0-9a-f]+)"[^>]*--data', svg)))


def test_the_caption_says_what_the_error_is_measured_against(sample: Bundle) -> None:
    """int8 is judged by accuracy; by closeness only from batch to batch."""
    report = verify_report(sample)
    spread = Figure(name="batch_spread", value=0.01, limit=0.2, ok=True)
    free = Figure(name="rel_l2", value=0.05, limit=None, ok=True)
    row = replace(report.rows[0], figures=(free, spread))
    plot = error_plot(replace(report, rows=(row,)))
    usual = error_plot(report)
    assert plot is not None
    assert usual is not None
    assert "float64" in usual.caption
    assert "float64" not in plot.caption
    assert "in batches of other sizes" in plot.caption
    assert plot.title == "Spread over batches, per backend"


def test_latency_names_what_could_not_be_timed(sample: Bundle) -> None:
    plot = latency_plot(bench_report(sample))
    assert plot is not None
    said = texts(plot)
    assert said.count("failed") == 3
    assert "skipped: ort-cuda" in said
    assert {"Batch 1", "Batch 8", "Batch 32"} <= set(said)


def test_very_unlike_latencies_get_a_log_scale(sample: Bundle) -> None:
    report = bench_report(sample)
    first = report.rows[0]
    slow = replace(first, samples_ns=tuple(s * 1000 for s in first.samples_ns))
    report = replace(report, rows=(slow, *report.rows[1:]))
    for plot in (latency_plot(report), throughput_plot(report)):
        assert plot is not None
        assert "log scale" in plot.caption.lower()
    assert accuracy_latency_plot(verify_report(sample), report) is not None


def test_a_label_keeps_clear_of_other_points() -> None:
    other = [(20.0, -9.0, 38.0, 9.0)]  # pixels
    ends = (-20.0, 500.0)  # no room to the left
    beside, _ = tradeoff_plot._free_place(0, 0, 30, [], ends)
    assert beside == pytest.approx((42, 0))
    above, box = tradeoff_plot._free_place(0, 0, 15, other, ends)
    assert abs(above[1]) == pytest.approx(17)
    assert not any(tradeoff_plot._overlap(box, part) for part in other)


def test_the_pareto_set_is_that_of_choose() -> None:
    """A smaller file stays in it; what is not settled or not equivalent is not weighed."""
    fast = tradeoff_plot.Point(
        ms=1, top1=0.9, label="fast", size_bytes=100, equivalent=True, marks=()
    )
    small = replace(fast, label="small", ms=2, size_bytes=50)
    worse = replace(fast, label="worse", ms=3)
    noisy = replace(fast, label="noisy", ms=0.5, size_bytes=10, marks=("noisy",))
    wrong = replace(fast, label="wrong", ms=0.4, size_bytes=10, equivalent=False)
    assert tradeoff_plot.pareto_set([worse, wrong, noisy, small, fast]) == [small, fast]


def test_the_tradeoff_says_in_words_what_its_shapes_mean(sample: Bundle) -> None:
    verify, bench = verify_report(sample), bench_report(sample)
    rows = tuple(
        replace(row, marks=("noisy",)) if row.subject.backend == "openvino" else row
        for row in bench.rows
    )
    plot = accuracy_latency_plot(verify, replace(bench, rows=rows))
    assert plot is not None
    assert re.search(r"openvino[^;]*, not settled", plot.description)
    assert re.search(r"ort-cpu[^;]*, in the Pareto set", plot.description)
    assert not re.search(r"torchscript[^;]*, in the Pareto set", plot.description)


def test_nothing_to_draw_gives_no_plot(sample: Bundle) -> None:
    verify, bench = verify_report(sample), bench_report(sample)
    skipped = tuple(row for row in bench.rows if row.status != "measured")
    empty = replace(bench, rows=skipped)
    assert latency_plot(empty) is None
    assert throughput_plot(empty) is None
    assert distribution_plot(empty) is None
    assert accuracy_latency_plot(verify, empty) is None
    assert error_plot(replace(verify, rows=verify.rows[-1:])) is None
    assert learning_plot([]) is None
    assert learning_plot([{"epoch": 1}]) is None


def test_images_held_out_have_their_own_curve() -> None:
    rows = [{**row, "validation_accuracy": 0.75} for row in METRICS]
    plot = learning_plot(rows)
    assert plot is not None
    assert {"train 0.800", "validation 0.750", "test 0.700"} <= set(texts(plot))
    assert "validation accuracy 75.00 %" in plot.description
    assert not any(t.startswith("validation") for t in texts(learning_plot(METRICS) or plot))


def test_one_batch_size_has_no_throughput_curve(sample: Bundle) -> None:
    report = bench_report(sample)
    alone = replace(report, rows=tuple(r for r in report.rows if r.batch == 1))
    assert throughput_plot(alone) is None
    assert latency_plot(alone) is not None


def test_throughput_says_what_its_rates_are_made_from(sample: Bundle) -> None:
    report = bench_report(sample)
    burst = tuple(replace(r, burst_runs=100, burst_ns=10**9) for r in report.rows)
    mixed = (*burst[:1], *report.rows[1:])
    said = []
    for rows in (report.rows, burst, mixed):
        plot = throughput_plot(replace(report, rows=rows))
        assert plot is not None
        said.append(plot.caption)
    assert "at the mean latency. " in said[0]
    assert "second of runs enqueued together. " in said[1]
    assert "of runs enqueued together where that was measured, else" in said[2]


@pytest.mark.parametrize("runs", [1, 9, 10, 63, 64])
def test_few_runs_draw_what_they_support(sample: Bundle, runs: int) -> None:
    row = few(sample, runs)
    report = replace(bench_report(sample), rows=(row,))
    assert (latency_plot(report) is not None) == (runs >= 10)  # p50
    assert (distribution_plot(report) is not None) == (runs >= 64)  # p90


def few(bundle: Bundle, runs: int) -> Timing:
    what = subject(bundle, "torch", "checkpoint", "fp32")
    return Timing(subject=what, batch=1, status="measured", samples_ns=tuple(range(1, runs + 1)))


def test_odd_names_are_drawn_as_they_are(sample: Bundle) -> None:
    report = verify_report(sample)
    name = r"$x_1$ <b>&amp; 模型"
    row = replace(report.rows[0], subject=replace(report.rows[0].subject, backend=name))
    plot = error_plot(replace(report, rows=(row,)))
    assert plot is not None
    assert name in texts(plot)


def test_exact_zero_error_is_drawn(sample: Bundle) -> None:
    report = verify_report(sample)
    first = report.rows[0]
    figures = (replace(first.figures[0], value=0.0), *first.figures[1:])
    plot = error_plot(replace(report, rows=(replace(first, figures=figures),)))
    assert plot is not None
    assert "0" in texts(plot)


def test_labels_are_as_long_as_they_need_to_be(sample: Bundle) -> None:
    def labels(*subjects: Subject) -> list[str]:
        return list(short_labels(subjects).values())

    one = subject(sample, "torch", "checkpoint", "fp32")
    program = subject(sample, "torch", "program", "fp32")
    onnx, half = (subject(sample, "ort-cpu", "onnx", p) for p in ("fp32", "fp16"))
    assert labels(one, onnx) == ["torch", "ort-cpu"]
    assert labels(one, program) == ["torch checkpoint", "torch program"]
    assert labels(onnx, half) == ["ort-cpu fp32", "ort-cpu fp16"]
    twin = replace(onnx, artifact="other.onnx")
    assert labels(onnx, twin) == ["ort-cpu:model.fp32.onnx", "ort-cpu:other.onnx"]


def test_spread_keeps_order_and_distance() -> None:
    placed = spread([5.0, 5.1, 4.9, 50.0], gap=2)
    assert placed[3] == 50
    assert placed[2] < placed[0] < placed[1]
    assert placed[0] - placed[2] == pytest.approx(2)
    assert spread([], gap=2) == []


def test_axis_helpers() -> None:
    assert [power_label(v) for v in (1e-7, 0.001, 1, 1000, 1e6)] == [
        "10⁻⁷",
        "0.001",
        "1",
        "1,000",
        "10⁶",
    ]
    assert not wide([])
    assert not wide([0.0, 1.0, 29.0])
    assert wide([1.0, 31.0])


def test_without_matplotlib_the_remedy_is_named(
    sample: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BackendNotAvailable) as caught:
        latency_plot(bench_report(sample))
    assert "vgg-deploy[report]" in caught.value.remedy


def test_empty_reports_have_no_plots(sample: Bundle) -> None:
    report: BenchReport = replace(bench_report(sample), rows=())
    assert latency_plot(report) is None
