from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.report.samples import bench_report, make_files, replaced, verify_report
from vgg_deploy import stored
from vgg_deploy.artifact import Format, Precision, Target, TensorSpec
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli.app import app
from vgg_deploy.export.registry import EXPORT_FORMATS
from vgg_deploy.manifest import Draft
from vgg_deploy.report.command_line import bundle_name
from vgg_deploy.report.findings import Findings, gather, read_metrics, summarise
from vgg_deploy.report.highlights import highlights
from vgg_deploy.report.html import page_of
from vgg_deploy.report.model_tables import blocks_table, model_table
from vgg_deploy.report.plain import markdown_of
from vgg_deploy.report.remade_files import EXPORTED
from vgg_deploy.report.reproduce import commands
from vgg_deploy.report.standing import NOT_VERIFIED
from vgg_deploy.results import BENCH_FILE, TrippedGate, Verdict
from vgg_deploy.spec import ModelSpec


def only(findings: Findings, *verdicts: Verdict) -> Findings:
    assert findings.verify
    rows = tuple(row for row in findings.verify.rows if row.verdict in verdicts)
    return replace(findings, verify=replace(findings.verify, rows=rows))


@pytest.mark.parametrize(
    ("verdicts", "status", "word"),
    [
        (("equivalent", "different", "failed", "skipped"), "bad", "Not equivalent"),
        (("equivalent", "failed", "skipped"), "failed", "Not proven equivalent"),
        (("failed",), "failed", "Not proven equivalent"),
        (("equivalent", "skipped"), "warn", "Equivalent as far as verified"),
        (("skipped",), "warn", "Nothing verified"),
        ((), "warn", "Nothing verified"),
    ],
)
def test_the_word_on_top(
    sample: Bundle, verdicts: tuple[Verdict, ...], status: str, word: str
) -> None:
    summary = summarise(only(gather(sample), *verdicts))
    assert (summary.status, summary.word) == (status, word)


def test_equivalent_needs_every_file(sample: Bundle) -> None:
    findings = only(gather(sample), "equivalent")
    proven = {s.artifact for s in findings.equivalent}
    kept = {path: sha for path, sha in findings.current.items() if path in proven}
    summary = summarise(replace(findings, current=kept))
    assert (summary.status, summary.word, summary.remarks) == ("ok", "Equivalent", ())
    summary = summarise(findings)
    assert summary.remarks == ("Not proven equivalent: model.fp32.export.pt2, model.fp16.onnx.",)


def test_a_condition_that_holds_is_said_and_takes_the_word_away(sample: Bundle) -> None:
    findings = only(gather(sample), "equivalent")
    assert findings.verify
    row = findings.comparisons[0]
    stale = TrippedGate(gate="top1>50", subject="gone:model.onnx", value=88.0)
    held = TrippedGate(gate="top1>50", subject=row.subject.id, value=88.25)
    verify = replace(findings.verify, gates=("top1>50",), tripped=(held, stale))
    gated = replace(findings, verify=verify)
    summary = summarise(gated)
    assert summary.status == "warn"
    assert summary.word == "Equivalent, but not within your conditions"
    assert summary.remarks[0] == f"The condition top1>50 holds for {row.subject.id}: 88.25."
    assert "gone" not in " ".join(summary.remarks)
    assert "The condition top1&gt;50 holds" in page_of(gated)
    assert "The condition top1>50 holds" in markdown_of(gated)
    bad = replace(verify, rows=gather(sample).verify.rows)  # type: ignore[union-attr]
    assert summarise(replace(findings, verify=bad)).word == "Not equivalent"


def test_a_file_that_does_not_hold_takes_the_word_away(sample: Bundle) -> None:
    (sample.root / "model.fp32.onnx").unlink()
    summary = summarise(only(gather(sample), "equivalent"))
    assert summary.word == "Not proven equivalent"
    assert summary.remarks[0] == "model.fp32.onnx is missing."


def test_a_file_that_does_not_hold_makes_no_headline(sample: Bundle) -> None:
    """All of ONNX is gone: the fastest that is proven is another format."""
    (sample.root / "model.fp32.onnx").write_bytes(b"short")
    findings = gather(sample)
    assert "model.fp32.onnx" not in {s.artifact for s in findings.equivalent}
    found = {h.name: h.detail for h in highlights(findings)}
    assert not any("model.fp32.onnx" in detail for detail in found.values()), found
    assert found["Fastest, proven"].startswith("torch-compile")


def test_a_file_verified_after_it_was_timed_is_both(sample: Bundle) -> None:
    marked = tuple(replace(row, marks=(NOT_VERIFIED,)) for row in bench_report(sample).rows)
    stored.save(sample.root / BENCH_FILE, replace(bench_report(sample), rows=marked))
    found = {h.name: h for h in highlights(gather(sample))}
    assert found["Fastest, proven"].value == "2.60 ms"
    assert "not verified" not in markdown_of(gather(sample))


def test_a_verdict_of_other_versions_settles_nothing(sample: Bundle) -> None:
    bench = bench_report(sample)
    newer = {**bench.environment.versions, "onnxruntime": "1.32.0"}
    bench = replace(bench, environment=replace(bench.environment, versions=newer))
    stored.save(sample.root / BENCH_FILE, bench)
    text = markdown_of(gather(sample))
    said = "verified with other versions or on another machine: onnxruntime 1.31.1, not 1.32.0"
    assert text.count(said) == 3, "ort-cpu at three batch sizes, and nothing else"


def test_only_stale_results_verify_nothing(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.verify
    rows = tuple(
        replace(row, subject=replace(row.subject, sha256="f" * 64)) for row in findings.verify.rows
    )
    stale = replace(findings, verify=replace(findings.verify, rows=rows))
    summary = summarise(stale)
    assert summary.word == "Nothing verified"
    assert summary.counts == (("warn", "8 stale"),)
    assert highlights(stale) == ()


def test_highlights_come_from_what_is_proven(sample: Bundle) -> None:
    found = {h.name: h for h in highlights(gather(sample))}
    assert found["Accuracy"].value == "91.82 %"
    assert found["Fastest, proven"].value == "2.60 ms"
    assert found["Fastest, proven"].detail.startswith("openvino, model.fp32.onnx")
    assert found["Nearest its limit"].value == "17 % used"
    assert found["Smallest, proven"].detail == "model.fp32.onnx"


def test_a_noisy_measurement_makes_no_headline(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.bench
    rows = tuple(replace(row, marks=("noisy: quartiles ±90 %",)) for row in findings.bench.rows)
    noisy = replace(findings, bench=replace(findings.bench, rows=rows))
    found = {h.name: h for h in highlights(noisy)}
    assert found["Fastest, proven"].value == "not settled"
    assert "noisy: quartiles ±90 %" in found["Fastest, proven"].detail


def test_environments_are_told_apart_only_when_they_differ(sample: Bundle) -> None:
    findings = gather(sample)
    names = [name for name, _ in findings.environments]
    assert names == ["verify, bench and bench --compare"]
    report = verify_report(sample)
    other = replace(report, environment=replace(report.environment, cores=64))
    names = [name for name, _ in replace(findings, verify=other).environments]
    assert names == ["verify", "bench and bench --compare"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "Another CPU"}, "cpu Another CPU and Some CPU @ 2.6 GHz"),
        ({"cores": 64}, "cores 64 and 2"),
        ({"versions": {"onnxruntime": "1.30.0"}}, "onnxruntime 1.30.0, not 1.31.1"),
    ],
)
def test_a_comparison_that_was_made_elsewhere_says_so(
    sample: Bundle, change: dict[str, Any], said: str
) -> None:
    findings = gather(sample)
    assert findings.compared
    assert findings.contests[0].marks == ()
    here = findings.compared.environment
    versions = {**here.versions, **change.get("versions", {})}
    there = replace(here, **{**change, "versions": versions})
    moved = replace(findings, compared=replace(findings.compared, environment=there))
    (contest,) = moved.contests
    assert contest.marks == (f"not where the timings were made: {said}",)
    assert [name for name, _ in moved.environments] == ["verify and bench", "bench --compare"]
    assert f"not where the timings were made: {said}" in markdown_of(moved)


def asked(findings: Findings, **options: str) -> Findings:
    """Everything is equivalent and covered; verify was asked like this."""
    findings = only(findings, "equivalent")
    assert findings.verify
    proven = {s.artifact for s in findings.equivalent}
    current = {path: sha for path, sha in findings.current.items() if path in proven}
    return replace(findings, current=current, verify=replace(findings.verify, options=options))


def test_how_verify_was_asked_is_said_on_top(sample: Bundle) -> None:
    findings = gather(sample)
    assert summarise(asked(findings, images="32", seed="0")).remarks == ()
    loose = summarise(asked(findings, max_top1_drop="50"))
    assert loose.word == "Equivalent"
    assert "Up to 50 points of top-1 accuracy were allowed to be lost" in loose.remarks[0]
    few = summarise(asked(findings, backend="torch, openvino", format="onnx"))
    assert (few.status, few.word) == ("warn", "Equivalent as far as verified")
    assert few.remarks == (
        "Verify was asked for torch, openvino in onnx only; nothing else was looked at.",
    )


def test_accuracy_that_was_not_looked_at_is_said(sample: Bundle) -> None:
    """Older results do not hold the options; their rows say it all the same."""
    findings = asked(gather(sample), accuracy="off")
    assert findings.verify
    blind = tuple(replace(row, accuracy=None) for row in findings.verify.rows)
    none = replace(findings, verify=replace(findings.verify, rows=blind))
    assert summarise(none).remarks == ("Accuracy was not compared: --no-accuracy was given.",)
    some = replace(findings.verify, rows=(*blind[:1], *findings.verify.rows[1:]), options={})
    said = f"Accuracy was not compared for {blind[0].subject.id}."
    assert summarise(replace(findings, verify=some)).remarks == (said,)


def test_the_commands_repeat_how_it_was_asked(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.verify
    assert findings.bench
    options = {
        "images": "8", "seed": "3", "data": "sample", "accuracy": "off", "max_top1_drop": "50",
        "backend": "torch, openvino", "format": "onnx", "locate": "on",
    }  # fmt: skip
    verify = replace(findings.verify, options=options, gates=("kl>1", "top1_flips>0"))
    told = {"seconds": "3", "cuda_graph": "off", "fail-if": "p50_ms>5, cv>0.1"}
    bench = replace(findings.bench, options=told, ceilings=(), layers=())
    lines = commands(replace(findings, verify=verify, bench=bench))
    assert lines[-4:-2] == (
        "vgg-deploy verify fmnist --batch 1 --batch 2 --batch 8 --images 8 --data sample --seed 3 "
        "--max-top1-drop 50 --backend torch --backend openvino --format onnx --no-accuracy "
        "--locate --fail-if 'kl>1' --fail-if 'top1_flips>0'",
        "vgg-deploy bench fmnist --batch 1 --batch 8 --batch 32 --seconds 3 --no-cuda-graph "
        "--no-limits --fail-if 'p50_ms>5' --fail-if 'cv>0.1'",
    )
    group = typer.main.get_command(app)
    for line in lines[-4:-1]:
        _, verb, *words = shlex.split(line)
        group.commands[verb].make_context(verb, words)  # type: ignore[attr-defined]
    photos = replace(verify, options={"data": "folder photos"})
    line = commands(replace(findings, verify=photos))[-4]
    assert line.startswith("# vgg-deploy verify")
    assert line.endswith("the path of the images is not on record")


def test_the_page_repeats_how_bench_was_asked(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.bench
    told = {
        "backend": "ort-cpu, openvino", "format": "onnx, embedded", "batch": "usual",
        "seconds": "1", "limits": "off",
    }  # fmt: skip
    asked = replace(findings, bench=replace(findings.bench, options=told))
    line = (
        "vgg-deploy bench fmnist --backend ort-cpu --backend openvino --format onnx "
        "--format embedded --seconds 1 --no-limits"
    )
    assert line in markdown_of(asked).splitlines()
    assert line in page_of(asked).splitlines()


def test_the_comparison_in_turns_is_repeated_while_its_files_are_there(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.compared
    compared = replace(findings.compared, options={"blocks": "12"})
    (line,) = [c for c in commands(replace(findings, compared=compared)) if "--compare" in c]
    assert line == (
        "vgg-deploy bench fmnist --compare openvino:model.fp32.onnx "
        "--compare ort-cpu:model.fp32.onnx --batch 1 --blocks 12"
    )
    assert not any("--compare" in c for c in commands(gather(replaced(sample, "onnx"))))


def test_metrics_of_a_killed_run_are_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n[1]\n\n{"epoch": 2, "lo')
    assert read_metrics(path) == ({"epoch": 1},)
    path.write_bytes(b'{"epoch": 1}\n' + b"[" * 100_000)
    assert read_metrics(path) == ({"epoch": 1},)
    assert read_metrics(tmp_path / "absent") == ()


def test_results_without_files_in_the_bundle_are_stale(sample: Bundle) -> None:
    before = gather(sample)
    after = gather(replaced(sample, "onnx"))
    assert len(before.equivalent) - len(after.equivalent) == 2


def test_commands_follow_the_records(sample: Bundle) -> None:
    assert commands(gather(sample)) == (
        "vgg-deploy export fmnist --format torchscript --format program --format onnx "
        "--precision fp16",
        "vgg-deploy verify fmnist --batch 1 --batch 2 --batch 8",
        "vgg-deploy bench fmnist --batch 1 --batch 8 --batch 32 --seconds 3 --percentile 90",
        "vgg-deploy bench fmnist --compare openvino:model.fp32.onnx "
        "--compare ort-cpu:model.fp32.onnx --batch 1",
        "vgg-deploy report fmnist",
    )


@pytest.mark.parametrize(
    ("made_by", "line"),
    [
        (
            {"command": "train", "epochs": "3", "dataset": "sample", "lr": "0.05", "seed": "0"},
            "vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 --data sample "
            "--lr 0.05 --seed 0 -o 'my bundle'",
        ),
        (
            {
                "command": "train",
                "accumulate": "4",
                "max_images": "200",
                "validation": "0.1",
                "ema": "0.999",
                "deterministic": "True",
            },
            "vgg-deploy train --arch vgg11 --width 0.25 --size 64 --accumulate 4 --max-images 200 "
            "--validation 0.1 --ema 0.999 --deterministic -o 'my bundle'",
        ),
        (
            {"command": "train", "accumulate": "1", "deterministic": "False", "epochs": "3"},
            "vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 -o 'my bundle'",
        ),
        (
            {"weights": "VGG16_Weights.IMAGENET1K_V1", "labels": "own"},
            "vgg-deploy load --weights VGG16_Weights.IMAGENET1K_V1 -o 'my bundle'",
        ),
        (
            {"weights": "my.pth", "preprocessing": "scale", "ceil_mode": "True"},
            "vgg-deploy load --weights my.pth --arch vgg11 --size 64 --head book "
            "--preprocessing scale --ceil-mode -o 'my bundle'",
        ),
        (
            {"weights": "my.pth", "labels": "given"},
            "# vgg-deploy load --weights my.pth --arch vgg11 --size 64 --head book -o 'my bundle'; "
            "the labels file is not on record",
        ),
        (
            {"command": "train", "dataset": "sample", "processes": "4", "batch": "64"},
            "torchrun --standalone --nproc-per-node 4 -m vgg_deploy.train --arch vgg11 "
            "--width 0.25 --size 64 --data sample --batch 64 -o 'my bundle'",
        ),
        (
            {"command": "train", "dataset": "sample", "processes": "1"},
            "vgg-deploy train --arch vgg11 --width 0.25 --size 64 --data sample -o 'my bundle'",
        ),
        (
            {"weights": "weights/my own.pth"},
            "vgg-deploy load --weights 'weights/my own.pth' --arch vgg11 --size 64 --head book "
            "-o 'my bundle'",
        ),
        (
            {"command": "train", "epochs": "3", "dataset": "folder\nphotos"},
            "# trained with vgg-deploy train; the path of the data (folder photos) is not on "
            "record",
        ),
        (
            {"command": "train", "dataset": "sample", "fine_tuned_from": "ab" * 32},
            "# trained with vgg-deploy train; the bundle it started from (checkpoint "
            "abababababab…) is not on record",
        ),
        ({"made_by": "hand"}, "vgg-deploy verify 'my bundle'"),
    ],
)
def test_the_first_command_makes_the_checkpoint(
    sample: Bundle, tmp_path: Path, made_by: dict[str, str], line: str
) -> None:
    old = sample.checkpoint
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=old.input,
        output=old.output,
        parent=None,
        made_by=made_by,
    )
    bundle, _ = create_bundle(
        tmp_path / "my bundle", sample.card, draft, lambda p: p.touch(), replace=False
    )
    assert commands(gather(bundle))[0] == line


def draft(
    format: Format, precision: Precision, target: Target | None = None, **made_by: str
) -> Draft:
    one = TensorSpec(name="x", dtype="float32", shape=("batch", 1), layout="NC")
    return Draft(
        format=format, precision=precision, input=one, output=one, parent=None, target=target,
        made_by=made_by,
    )  # fmt: skip


def test_every_command_is_one_that_the_command_line_takes(sample: Bundle) -> None:
    rtx = Target(flavour="tensorrt_rtx", version="1.7", compute_capability="8.9",
                 batches=((1, 8, 64),))  # fmt: skip
    trt = replace(rtx, flavour="tensorrt", batches=((1, 1, 1), (8, 8, 8)))
    for one in (
        draft("onnx", "int8", calibration_wanted="sample", calibration_images="256"),
        draft("embedded", "fp32", resize="portable", topk="0"),
        draft("embedded", "int8", resize="none", topk="5"),
        draft("engine", "fp32", rtx),
        draft("engine", "int8", rtx, gpu="none"),
        draft("engine", "tf32", trt, **{"strip-weights": "yes", "workspace": "2048"}),
    ):
        sample, _ = sample.add(one, lambda path: path.touch())
    lines = commands(gather(open_bundle(sample.root)))
    assert lines[:-4] == (
        "vgg-deploy export fmnist --format torchscript --format program --format onnx "
        "--precision fp16",
        "vgg-deploy export fmnist --format onnx --precision int8 --calibration-data sample "
        "--calibration-images 256",
        "vgg-deploy export fmnist --format onnx --embedded",
        "vgg-deploy export fmnist --format onnx --precision int8 --calibration-data sample "
        "--calibration-images 256 --embedded --resize none --topk 5",
        "vgg-deploy build fmnist --flavour tensorrt-rtx --compute-capability 8.9 --precision fp32 "
        "--precision int8",
        "vgg-deploy build fmnist --flavour tensorrt --batch 1:1:1 --batch 8:8:8 --workspace 2048 "
        "--strip-weights --precision tf32",
    )
    group = typer.main.get_command(app)
    for line in lines:
        _, verb, *words = shlex.split(line)
        group.commands[verb].make_context(verb, words)  # type: ignore[attr-defined]
    assert sorted(EXPORTED) == sorted(EXPORT_FORMATS)


def test_a_relative_bundle_is_named_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_files(tmp_path / "artifacts" / "x")
    assert bundle_name(bundle) == "x"
    monkeypatch.chdir(tmp_path)
    assert bundle_name(Bundle(Path("artifacts/x"), bundle.manifest)) == "artifacts/x"


def test_the_model_tables_come_from_the_spec(sample: Bundle) -> None:
    values = {row.cells[0]: row.cells[1] for row in model_table(sample.card).rows}
    assert values["conv_arch"] == "(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)"
    assert values["Preprocessing"].startswith("resize to 64 × 64")
    blocks = blocks_table(sample.card.spec)
    assert [row.cells[2] for row in blocks.rows] == ["16", "32", "64", "128", "128"]
    small = blocks_table(ModelSpec.named("vgg16_1x1"))
    assert [row.cells[1:3] for row in small.rows][-1] == ("2", "1")


@pytest.mark.parametrize("unfinished", [True, False])
def test_metrics_of_other_weights_are_not_shown(sample: Bundle, unfinished: bool) -> None:
    """As an interrupted ``train --replace`` leaves them."""
    weights, best = sample.path(sample.checkpoint), sample.root / "training" / "best.safetensors"
    assert gather(sample).metrics  # whoever has deleted the best epoch keeps the log
    kept = sample.root / "training" / "checkpoints" / "step-00000012"
    if unfinished:
        kept.mkdir(parents=True)
        assert not gather(sample).metrics
    best.write_bytes(weights.read_bytes())
    mine = gather(sample)
    assert (len(mine.metrics), mine.withheld) == (6, "")
    best.write_bytes(bytes(reversed(weights.read_bytes())))
    findings = gather(sample)
    said = "that would replace this checkpoint is unfinished" if unfinished else "of other weights"
    assert findings.metrics == ()
    for page in (page_of(findings), markdown_of(findings)):
        assert said in page
        assert "No training is on record" not in page
