from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.samples import HOSTILE, bench_report, make_files, replaced
from vgg_deploy import jsonio, stored
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import BackendNotAvailable, RefusedInput
from vgg_deploy.report.canvas import Plot
from vgg_deploy.report.findings import gather
from vgg_deploy.report.gpu_table import gpu_table
from vgg_deploy.report.html import REPORT_FILE, write_report
from vgg_deploy.report.judged import STALE, digests
from vgg_deploy.report.sections import Section, sections
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport, GpuState, VerifyReport

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Headings, ids, references, tags: what a page is made of, and whether it nests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def page_of(bundle: Bundle, tmp_path: Path) -> str:
    return write_report(bundle, tmp_path / "page.html").read_text(encoding="utf-8")


def plain(page: str) -> str:
    """The page's words, without markup."""
    body = page[page.index("<body>") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_page_holds_everything(sample: Bundle, tmp_path: Path) -> None:
    page = page_of(sample, tmp_path)
    words = plain(page)
    assert "Not equivalent" in words
    for text in ("5 equivalent", "1 different", "1 failed", "1 skipped", "91.82 %", "(1, 64)"):
        assert text in words
    assert page.count("<svg") == 9
    for artifact in sample.artifacts:
        assert artifact.sha256 in page
    assert "vgg-deploy verify fmnist --batch 1 --batch 2 --batch 8" in words


def test_reasons_stand_below_their_rows_where_a_table_is_wide(
    sample: Bundle, tmp_path: Path
) -> None:
    page = page_of(sample, tmp_path)
    table = page[page.index("Latency in milliseconds per batch") :].partition("</table>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)', table)
    assert "Reason" not in heads
    spans = re.findall(r'<td colspan="(\d+)"><span>Reason: ([^<]+)</span>', table)
    assert spans
    assert {int(columns) for columns, _ in spans} == {len(heads)}


def test_nothing_is_fetched(sample: Bundle, tmp_path: Path) -> None:
    outline = Outline(page_of(sample, tmp_path))
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not outline.all("script", "iframe", "object")
    style = re.findall(r"<style>(.*?)</style>", page_of(sample, tmp_path), re.DOTALL)
    assert not any(word in css for css in style for word in ("@import", "url(", "@font-face"))


def test_text_from_outside_is_escaped(sample: Bundle, tmp_path: Path) -> None:
    page = page_of(sample, tmp_path)
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(" in page
    assert "bag &amp; more" in page


def test_the_page_is_accessible_by_its_structure(sample: Bundle, tmp_path: Path) -> None:
    outline = Outline(page_of(sample, tmp_path))
    assert outline.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= before + 1 for before, later in pairwise(levels))
    assert len(outline.all("table")) == len(outline.all("caption")) > 6
    assert all(head.get("scope") in ("col", "row") for head in outline.all("th"))
    ids = [a["id"] for _, a in outline.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        for name in ("aria-labelledby", "href"):
            for target in (attributes.get(name) or "").split():
                assert target.startswith("data:") or target.lstrip("#") in ids
    scrolling = [a for a in outline.all("div") if a.get("class") == "scroll"]
    assert all(a.get("tabindex") == "0" and a.get("role") == "region" for a in scrolling)


def test_equal_results_give_equal_bytes(sample: Bundle, tmp_path: Path) -> None:
    first = page_of(sample, tmp_path / "a")
    assert page_of(open_bundle(sample.root), tmp_path / "b") == first


def test_stale_results_are_marked(sample: Bundle, tmp_path: Path) -> None:
    words = plain(page_of(replaced(sample, "onnx"), tmp_path))
    assert "2 stale" in words
    assert "2 comparisons measured on an earlier file, not counted; verify again." in words
    assert words.count(STALE) == 2 + 6  # verify, and bench at three batch sizes


def test_stale_timings_are_in_no_plot_of_speed(sample: Bundle) -> None:
    """The ONNX file was made again: what its earlier self reached is no Pareto winner."""

    def speed(bundle: Bundle) -> dict[str, str]:
        (found,) = (s for s in sections(gather(bundle)) if s.name == "speed")
        return {p.name: p.description for p in found.parts if isinstance(p, Plot)}

    before, after = speed(sample), speed(replaced(sample, "onnx"))
    for name in ("throughput", "spread", "tradeoff"):
        assert "ort-cpu" in before[name], before
        assert "ort-cpu" not in after.get(name, ""), name
    assert "ort-cpu" in after["latency"], "where stale rows are marked they stay"


def test_profiles_of_an_earlier_file_are_left_out_of_the_limits(sample: Bundle) -> None:
    def limits(bundle: Bundle) -> Section:
        (found,) = (s for s in sections(gather(bundle)) if s.name == "limits")
        return found

    assert len(limits(sample).parts) == 4
    old = limits(replaced(sample, "onnx"))
    assert [part.title for part in old.parts] == ["What this machine can do at most"]
    assert "1 profile of earlier files left out" in old.lead


def test_the_gpu_of_an_earlier_file_is_marked(sample: Bundle) -> None:
    gpu = GpuState(sm_mhz=(1980, 1980), memory_mhz=(2619, 2619), temperature_c=(40, 44),
                   power_w=(300.0, 310.0), slowed_by=(), other_processes=0,
                   memory_bytes=1 << 30)  # fmt: skip
    bench = bench_report(sample)
    bench = replace(bench, rows=tuple(replace(row, gpu=gpu) for row in bench.rows[:5]))
    table = gpu_table(bench, digests(replaced(sample, "onnx")))
    assert table is not None
    said = {row.cells[0]: (row.status, row.notes) for row in table.rows}
    assert said["ort-cpu"] == ("warn", ("stale",))
    assert said["torch"] == ("plain", ())


def test_batch_sizes_are_those_that_a_file_takes(sample: Bundle) -> None:
    def lead(bundle: Bundle) -> str:
        return next(s.lead for s in sections(gather(bundle)) if s.name == "equivalence")

    assert "at batch 1, 2, 8. " in lead(sample)
    onnx = next(a for a in sample.artifacts if a.format == "onnx")
    fixed = replace(onnx, input=replace(onnx.input, shape=(1, 1, 64, 64)))
    artifacts = tuple(fixed if a == onnx else a for a in sample.artifacts)
    one = Bundle(sample.root, replace(sample.manifest, artifacts=artifacts))
    assert "at batch 1, 2, 8; a file that is made for certain sizes at those. " in lead(one)


def test_each_file_that_is_hashed_is_told(sample: Bundle, tmp_path: Path) -> None:
    told: list[int] = []
    write_report(sample, tmp_path / "page.html", hashed=lambda: told.append(1))
    assert len(told) == len(sample.artifacts)


def test_a_command_is_quoted(tmp_path: Path) -> None:
    words = plain(page_of(make_files(tmp_path / "my bundle"), tmp_path))
    assert "This makes it: vgg-deploy bench &#39;my bundle&#39;" in words


def test_a_changed_file_is_named(sample: Bundle, tmp_path: Path) -> None:
    (sample.root / "model.fp32.onnx").write_bytes(b"short")
    assert "model.fp32.onnx has 5 bytes instead of" in plain(page_of(sample, tmp_path))


def test_missing_sections_say_which_command_makes_them(tmp_path: Path) -> None:
    words = plain(page_of(make_files(tmp_path / "bare"), tmp_path))
    assert "Nothing verified" in words
    assert words.count("Nothing is stored yet. This makes it: vgg-deploy verify bare") == 2
    assert "Nothing is stored yet. This makes it: vgg-deploy bench bare" in words
    assert "No training is on record here" in words
    Outline(page_of(open_bundle(tmp_path / "bare"), tmp_path))


def test_a_broken_page_is_never_left_behind(sample: Bundle, tmp_path: Path) -> None:
    page = tmp_path / REPORT_FILE
    page.write_text("old")
    (sample.root / VERIFY_FILE).write_text("{}")
    with pytest.raises(RefusedInput):
        write_report(sample, page)
    assert page.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_results_of_another_schema_are_refused(sample: Bundle, tmp_path: Path) -> None:
    path = sample.root / BENCH_FILE
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 9'))
    with pytest.raises(RefusedInput, match="schema version 9"):
        write_report(sample, tmp_path / "page.html")


def test_without_jinja2_the_remedy_is_named(
    sample: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(BackendNotAvailable) as caught:
        write_report(sample, tmp_path / "page.html")
    assert "vgg-deploy[report]" in caught.value.remedy
    assert not (tmp_path / "page.html").exists()


def test_many_labels_are_folded(sample: Bundle, tmp_path: Path) -> None:
    manifest = jsonio.dumps(sample.manifest)
    labels = ", ".join(f'"label {i}"' for i in range(1000))
    manifest = re.sub(r'"labels": \[[^\]]*\]', f'"labels": [{labels}]', manifest)
    manifest = manifest.replace('"classes": 10,', '"classes": 1000,')
    manifest = re.sub(r'("batch",\s+)10\b', r"\g<1>1000", manifest)  # shapes of the outputs
    (sample.root / "manifest.json").write_text(manifest)
    page = page_of(open_bundle(sample.root), tmp_path)
    assert "1000 labels, in the order of the outputs" in plain(page)
    Outline(page)


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})[;\s]", css))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["light", "dark", "print"])
def test_every_text_colour_has_the_contrast_of_aa(
    sample: Bundle, tmp_path: Path, mode: int
) -> None:
    blocks = re.findall(r":root \{(.*?)\}", page_of(sample, tmp_path), re.DOTALL)
    found = colours(blocks[mode])
    paper = luminance(found.pop("paper"))
    for name, colour in found.items():
        if name in ("rule", "soft"):
            continue
        low, high = sorted((paper, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (name, colour)


def test_limits_comparison_chain_and_images_are_on_the_page(sample: Bundle, tmp_path: Path) -> None:
    page = page_of(sample, tmp_path)
    words = plain(page)
    for text in (
        "Compared in turns at batch 1",
        "slower by 3.8 %",
        "Step by step from the checkpoint",
        "First stage that diverges: pool4",
        "Worst images",
        "Layer by layer: ort-cpu, model.fp32.onnx",
        "What this machine can do at most",
        "Most frequent mistakes: 61 of ",
    ):
        assert text in words, text
    assert page.count('src="data:image/png;base64,') == 4


def test_a_picture_that_is_no_base64_is_left_out(sample: Bundle, tmp_path: Path) -> None:
    report = stored.load(VerifyReport, sample.root / VERIFY_FILE)
    first = report.rows[0]
    assert first.worst is not None
    evil = replace(first, worst=replace(first.worst, png='x" onerror="alert(1)'))
    stored.save(sample.root / VERIFY_FILE, replace(report, rows=(evil, *report.rows[1:])))
    assert "onerror" not in page_of(sample, tmp_path)


def test_a_comparison_of_a_replaced_file_is_left_out(sample: Bundle, tmp_path: Path) -> None:
    assert "Compared in turns" not in plain(page_of(replaced(sample, "onnx"), tmp_path))


def test_markdown_says_what_the_page_says(sample: Bundle, tmp_path: Path) -> None:
    text = write_report(sample, tmp_path / "report.md", "md").read_text(encoding="utf-8")
    for line in ("# fmnist: Not equivalent", "## Equivalence", "## Limits", "- ✓ 5 equivalent"):
        assert f"\n{line}\n" in f"\n{text}"
    assert f"Timed {stored.load(BenchReport, sample.root / BENCH_FILE).made_at}." in text
    assert HOSTILE not in text
    assert "<svg" not in text
    assert "ort-cpu 2.64 ms" in text  # what a drawing shows, in words


def test_json_holds_the_tables(sample: Bundle, tmp_path: Path) -> None:
    found = json.loads(
        write_report(sample, tmp_path / "report.json", "json").read_text(encoding="utf-8")
    )
    assert found["verdict"]["word"] == "Not equivalent"
    tables = {part.get("table"): part for part in found["sections"]["speed"]}
    rows = tables["Latency in milliseconds per batch, and throughput"]["rows"]
    assert rows[0]["Backend"] == "openvino"
    assert rows[0]["p50"] == "2.60"
    assert found["schema_version"] == 1
    assert found["checkpoint"] == sample.checkpoint.sha256
    stored_bench = stored.load(BenchReport, sample.root / BENCH_FILE)
    assert found["made_at"]["timed"] == stored_bench.made_at
    timed = {(row["id"], row["batch"]): row for row in found["figures"]["bench"]}
    fastest = timed["openvino:model.fp32.onnx", 1]
    assert fastest["figures"]["p50_ms"] == pytest.approx(2.60, abs=0.005)
    compared = {row["id"]: row for row in found["figures"]["verify"]}
    assert {row["verdict"] for row in compared.values()} >= {"equivalent", "different"}
    assert compared["ort-cpu:model.fp32.onnx"]["figures"]["rel_l2"]["limit"] > 0
    figures = {part.get("table"): part for part in found["sections"]["equivalence"]}
    judged = figures["Every figure beside its limit"]["rows"]
    assert any("≤" in row.get("notes", {}).get("relative L2 error", "") for row in judged)
