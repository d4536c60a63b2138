"""The limits in tables: ceilings, shares of them, and what makes a ceiling too low."""

from __future__ import annotations

from dataclasses import replace

from tests.report.samples import bench_report
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.limit_tables import ceilings_table, layers_table, why_above
from vgg_deploy.report.tables import bench_table

MARK = "not alone: other programs used 0.9 cores meanwhile"


def test_a_ceiling_measured_beside_others_is_marked(sample: Bundle) -> None:
    report = bench_report(sample)
    (quiet,) = ceilings_table(report)
    assert {row.status for row in quiet.rows} == {"plain"}
    assert (quiet.note, "Reason" in [c.name for c in quiet.columns]) == ("", False)

    first, *others = report.ceilings
    (table,) = ceilings_table(replace(report, ceilings=(replace(first, marks=(MARK,)), *others)))
    assert [row.status for row in table.rows] == ["warn", *("plain" for _ in others)]
    assert table.rows[0].cells[-1] == MARK
    assert "too low" in table.note


def test_a_share_above_all_says_that_its_ceiling_may_be_too_low(sample: Bundle) -> None:
    report, spec = bench_report(sample), sample.card.spec
    low = replace(report, ceilings=tuple(replace(c, per_s=c.per_s / 1e3) for c in report.ceilings))
    marked = replace(low, ceilings=tuple(replace(c, marks=(MARK,)) for c in low.ceilings))
    assert "too low" not in bench_table(low, spec=spec).note + layers_table(low, spec)[0].note
    for table in (bench_table(marked, spec=spec), *layers_table(marked, spec)):
        assert table.note.endswith(why_above(marked))
        assert "too low" in table.note
