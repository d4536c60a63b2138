"""The script behind docs/results/export_cost.json: medians and the two ratios."""

from __future__ import annotations

import pytest

from scripts.bench_export import summarize


def sample(total: float, call: float, peak: float) -> dict[str, float]:
    return {"total_s": total, "call_s": call, "peak_rss_bytes": peak, "process_s": total + 1}


@pytest.mark.parametrize(("peak", "holds"), [(120.0, True), (140.0, False)])
def test_summary(peak: float, holds: bool) -> None:
    bare = [sample(6, 5, 100), sample(60, 50, 100), sample(5, 4, 100)]
    ours = [sample(7, 0, peak), sample(6, 0, peak), sample(9, 0, peak)]
    summary = summarize({"bare": bare, "ours": ours})
    assert summary["wall_ratio"] == pytest.approx(7 / 5)
    assert summary["wall_ratio_with_load_in_both"] == pytest.approx(7 / 6)
    assert summary["memory_ratio"] == pytest.approx(peak / 100)
    assert summary["holds"] is holds
