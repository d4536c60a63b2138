from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from tests.report.samples import ENVIRONMENT, bench_report, replaced, verify_report
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.console import fitting
from vgg_deploy.report.judged import STALE, limit_text, relation, used_up
from vgg_deploy.report.learning import training_table
from vgg_deploy.report.table import SIGNS, Column, Row, Table, escaped, simple_table, to_markdown
from vgg_deploy.report.tables import (
    artifacts_table,
    bench_table,
    digests,
    environment_table,
    figures_table,
    startup_table,
    verify_table,
)
from vgg_deploy.results import Figure


def column(table: Table, name: str) -> list[str]:
    place = [c.name for c in table.columns].index(name)
    return [row.cells[place] for row in table.rows]


def printed(*tables: Table, width: int) -> str:
    console = Console(width=width, file=StringIO())
    for table in tables:
        console.print(fitting(console, table))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_verify_puts_the_worst_first_and_keeps_every_row(sample: Bundle) -> None:
    report = verify_report(sample)
    table = verify_table(report, digests(sample))
    assert len(table.rows) == len(report.rows)
    assert column(table, "Verdict")[:3] == ["different", "failed", "equivalent"]
    assert column(table, "Verdict")[-1] == "skipped"
    assert [row.status for row in table.rows][:3] == ["bad", "failed", "ok"]
    assert column(table, "Nearest its limit")[2] == "largest difference"  # openvino: 17 % used
    assert all(column(table, "Reason"))
    assert table.note.startswith("5 equivalent · 1 different · 1 failed · 1 skipped.")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_a_narrow_terminal_cuts_nothing(sample: Bundle, width: int) -> None:
    """Every text is there whole, however it is broken, and no line is longer than the terminal."""
    report = verify_report(sample)
    for table in (
        artifacts_table(sample, {}),
        verify_table(report, digests(sample)),
        bench_table(bench_report(sample)),
        figures_table(report),
    ):
        text = printed(table, width=width)
        assert max(map(len, text.splitlines())) <= width
        letters = Counter("".join(text.split()))
        main = table.without_extra_columns()
        for head in (c.title for c in main.columns[1:] if any(column(main, c.name))):
            assert not Counter("".join(head.split())) - letters
        places = range(len(main.columns))
        texts = [t for r in main.rows for i in places for t in (r.cells[i], r.note(i))]
        wanted = Counter("".join("".join(texts).split()))
        assert not wanted - letters, "a character of some cell is missing"


def test_row_by_row_a_row_without_a_name_keeps_its_sign() -> None:
    columns = [Column(name=name) for name in ("name", "one", "other")]
    table = Table(
        title="", columns=tuple(columns), rows=(Row(cells=("", "x" * 20, "y" * 20), status="bad"),)
    )
    assert printed(table, width=20).split()[0] == SIGNS["bad"]


def test_a_figure_that_is_not_finite_says_so(sample: Bundle) -> None:
    table = figures_table(verify_report(sample))
    assert column(table, "largest difference")[0] == "not finite"
    place = [c.name for c in table.columns].index("largest difference")
    assert table.rows[0].note(place) == "≤ 0.0200 ✗"


def test_every_figure_stands_beside_its_limit(sample: Bundle) -> None:
    report = verify_report(sample)
    table = figures_table(report)
    names = {f.name for row in report.rows for f in row.figures}
    assert len(table.columns) == 2 + len(names)
    assert all(any(row.notes) for row in table.rows)


def test_stale_rows_are_marked_and_not_counted_as_equivalent(sample: Bundle) -> None:
    report = verify_report(sample)
    changed = replaced(sample, "onnx")
    table = verify_table(report, digests(changed))
    stale = [row for row in table.rows if row.cells[-1] == STALE]
    assert [row.cells[0] for row in stale] == ["openvino", "ort-cpu"]
    assert all(row.status == "warn" for row in stale)
    assert table.note.startswith("3 equivalent · 1 different · 1 failed · 1 skipped · 2 stale")
    bench = bench_table(bench_report(sample), digests(changed))
    assert column(bench, "Reason").count(STALE) == 6  # two backends at three batch sizes


def test_bench_sorts_by_batch_and_speed(sample: Bundle) -> None:
    report = bench_report(sample)
    table = bench_table(report, digests(sample))
    assert column(table, "Backend")[:2] == ["openvino", "ort-cpu"]
    batches = column(table, "Batch")
    assert batches[-1] == "–"  # skipped before a batch was chosen
    assert [int(b) for b in batches[:-1]] == sorted(int(b) for b in batches[:-1])
    assert column(table, "To fastest")[0] == "1.00×"
    reasons = column(table, "Reason")
    assert "failed: RuntimeError: broke" in reasons
    assert "skipped: no NVIDIA GPU" in reasons
    assert table.note.startswith("15 measured · 3 failed · 1 skipped.")


def test_timings_too_short_to_see_others_are_counted(sample: Bundle) -> None:
    report = bench_report(sample)
    alone = replace(report, rows=tuple(replace(row, others_cores=0.0) for row in report.rows))
    one = next(i for i, row in enumerate(alone.rows) if row.status == "measured")
    blind = replace(alone.rows[one], others_cores=None)
    some = replace(alone, rows=(*alone.rows[:one], blind, *alone.rows[one + 1 :]))
    assert "other programs" not in bench_table(alone).note
    assert "Whether other programs ran beside 1 timing could not be told." in bench_table(some).note


def test_percentiles_without_enough_runs_are_left_out(sample: Bundle) -> None:
    table = bench_table(bench_report(sample))
    at_8 = column(table, "Batch").index("8")
    assert column(table, "p90")[at_8] != "–"
    assert column(table, "p99")[at_8] == "–"  # 120 runs; p99 needs 662


def test_a_timing_of_what_is_not_proven_says_so(sample: Bundle) -> None:
    table = bench_table(bench_report(sample), digests(sample), verified=())
    assert column(table, "Reason")[0] == "not proven equivalent"
    assert table.rows[0].status == "warn"


def test_start_up_has_one_row_per_backend(sample: Bundle) -> None:
    table = startup_table(bench_report(sample))
    assert len(table.rows) == 5
    assert column(table, "Import")[0] == "1.40 s"


def test_artifacts_name_their_parent_and_their_problem(sample: Bundle) -> None:
    table = artifacts_table(sample, {"model.fp32.onnx": "is missing"})
    assert column(table, "Made from")[0] == "–"
    assert column(table, "Made from")[1] == "checkpoint.safetensors"
    bad = [row for row in table.rows if row.status == "bad"]
    assert [(row.cells[0], row.cells[-1]) for row in bad] == [("model.fp32.onnx", "is missing")]
    assert set(column(artifacts_table(sample, None), "Digest")) == {"not checked"}


def test_training_is_tolerant_to_absent_keys() -> None:
    table = training_table([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None, "odd": []}])
    assert [c.name for c in table.columns] == ["Epoch", "Loss"]
    assert column(table, "Loss") == ["0.500", "–"]


def test_images_held_out_have_their_own_column() -> None:
    table = training_table([{"epoch": 1, "validation_accuracy": 0.5, "test_accuracy": 0.25}])
    assert [c.name for c in table.columns] == ["Epoch", "Validation accuracy", "Test accuracy"]
    assert column(table, "Validation accuracy") == ["50.00 %"]


def test_environment_says_what_is_not_there() -> None:
    values = {row.cells[0]: row.cells[1] for row in environment_table(ENVIRONMENT).rows}
    assert values["GPU"] == "none"
    assert values["torch"] == "2.14.1"


@pytest.mark.parametrize(
    ("figure", "text", "used"),
    [
        (Figure(name="rel_l2", value=1e-6, limit=5e-6, ok=True), "≤ 5.00×10⁻⁶", 0.2),
        (Figure(name="rel_l2", value=None, limit=5e-6, ok=False), "≤ 5.00×10⁻⁶", float("inf")),
        (Figure(name="flips", value=1, limit=0, ok=False), "≤ 0", float("inf")),
        (Figure(name="flips", value=0, limit=0, ok=True), "≤ 0", 0.0),
        (Figure(name="top1_agreement", value=0.99, limit=0.98, ok=True), "≥ 98.00 %", 0.5),
        (Figure(name="kl", value=3.0, limit=None, ok=True), "", 0.0),
    ],
)
def test_how_much_of_a_limit_is_used(figure: Figure, text: str, used: float) -> None:
    assert limit_text(figure) == text
    assert used_up(figure) == pytest.approx(used)


def test_an_unknown_figure_tells_its_direction_by_being_ok() -> None:
    assert relation(Figure(name="samples", value=38, limit=8, ok=True)) == "≥"
    assert relation(Figure(name="samples", value=4, limit=8, ok=False)) == "≥"
    assert relation(Figure(name="odd", value=4, limit=8, ok=True)) == "≤"


def test_markdown_escapes_and_aligns() -> None:
    table = simple_table(
        "A *title*",
        ["Name", Column(name="Size", unit="MiB", align="right")],
        [("a|b_<i>", "12\n34")],
        statuses=["skipped"],
        note="1 row",
    )
    assert to_markdown(table).splitlines() == [
        "**A \\*title\\***",
        "",
        "|  | Name | Size (MiB) |",
        "| --- | --- | --: |",
        "| – | a\\|b\\_&lt;i> | 12 34 |",
        "",
        "1 row",
    ]


def test_markdown_from_outside_makes_no_link_image_or_code() -> None:
    assert escaped("[x](http://y) ![z](w) `a` ~~b~~") == (
        "\\[x\\](http://y) !\\[z\\](w) \\`a\\` \\~\\~b\\~\\~"
    )


def test_markdown_has_as_many_cells_in_every_line(sample: Bundle) -> None:
    text = to_markdown(figures_table(verify_report(sample)))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_cuts_nothing(sample: Bundle, width: int) -> None:
    text = printed(
        verify_table(verify_report(sample)), bench_table(bench_report(sample)), width=width
    )
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    letters = "".join(text.split())
    assert "broke" in letters
    assert "skipped" in letters


def test_terminal_text_is_not_markup() -> None:
    assert "[red]x[/red]" in printed(simple_table("t", ["a"], [("[red]x[/red]",)]), width=60)


def test_columns_without_content_are_left_out() -> None:
    columns = (Column(name="a"), Column(name="b"))
    row = Row(cells=("x", "–"), notes=("", ""))
    table = Table(title="t", columns=columns, rows=(row,)).without_empty_columns()
    assert [c.name for c in table.columns] == ["a"]
    kept = replace(row, notes=("", "said below"))
    table = Table(title="t", columns=columns, rows=(kept,)).without_empty_columns()
    assert [c.name for c in table.columns] == ["a", "b"]
