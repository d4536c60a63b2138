"""The commands that a report prints to make everything again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from tests.report.samples import make_files, replaced
from vgg_deploy.artifact import Format, Precision, Target, TensorSpec
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli.app import app
from vgg_deploy.export.registry import EXPORT_FORMATS
from vgg_deploy.manifest import Draft
from vgg_deploy.report.command_line import bundle_name
from vgg_deploy.report.findings import gather
from vgg_deploy.report.html import page_of
from vgg_deploy.report.plain import markdown_of
from vgg_deploy.report.remade_files import EXPORTED
from vgg_deploy.report.reproduce import commands


def test_the_commands_repeat_how_it_was_asked(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.verify
    assert findings.bench
    options = {
        "images": "8", "seed": "3", "data": "sample", "accuracy": "off", "max_top1_drop": "50",
        "backend": "torch, openvino", "format": "onnx", "precision": "fp32, tf32",
        "locate": "on",
    }  # fmt: skip
    verify = replace(findings.verify, options=options, gates=("kl>1", "top1_flips>0"))
    told = {"seconds": "3", "cuda_graph": "off", "fail-if": "p50_ms>5, cv>0.1"}
    bench = replace(findings.bench, options=told, ceilings=(), layers=())
    lines = commands(replace(findings, verify=verify, bench=bench))
    assert lines[-4:-2] == (
        "vgg-deploy verify fmnist --batch 1 --batch 2 --batch 8 --images 8 --data sample --seed 3 "
        "--max-top1-drop 50 --backend torch --backend openvino --format onnx --precision fp32 "
        "--no-accuracy --locate --fail-if 'kl>1' --fail-if 'top1_flips>0'",
        "vgg-deploy bench fmnist --batch 1 --batch 8 --batch 32 --seconds 3 --no-cuda-graph "
        "--no-limits --fail-if 'p50_ms>5' --fail-if 'cv>0.1'",
    )
    group = typer.main.get_command(app)
    for line in lines[-4:-1]:
        _, verb, *words = shlex.split(line)
        group.commands[verb].make_context(verb, words)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "words", "missing"),
    [
        ({"data": "folder my\nphotos"}, "--data PATH", "PATH: folder my photos"),
        ({"data_dir": "given"}, "--data-dir DIR", "DIR: the folder of the data set's files"),
    ],
)
def test_images_whose_path_is_not_on_record(
    sample: Bundle, asked: dict[str, str], words: str, missing: str
) -> None:
    findings = gather(sample)
    assert findings.verify
    asked_so = replace(findings, verify=replace(findings.verify, options=asked))
    assert commands(asked_so)[-4] == (
        f"# vgg-deploy verify fmnist --batch 1 --batch 2 --batch 8 {words}  # {missing}"
    )


def test_names_that_came_to_no_row_are_left_out(sample: Bundle) -> None:
    """They were accepted once; a backend without a file to open, or the other way, no longer is."""
    findings = gather(sample)
    assert findings.verify
    assert findings.bench
    told = {"backend": "ort-cpu, aoti", "format": "onnx, embedded"}
    verify, bench = replace(findings.verify, options=told), replace(findings.bench, options=told)
    lines = commands(replace(findings, verify=verify, bench=bench))
    assert lines[-4].endswith(" --backend ort-cpu --format onnx")
    assert lines[-3].startswith("vgg-deploy bench fmnist --backend ort-cpu --format onnx --batch")


def test_the_page_repeats_how_bench_was_asked(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.bench
    told = {
        "backend": "ort-cpu, torch-export", "format": "onnx, program", "batch": "usual",
        "seconds": "1", "limits": "off",
    }  # fmt: skip
    asked = replace(findings, bench=replace(findings.bench, options=told))
    line = (
        "vgg-deploy bench fmnist --backend ort-cpu --backend torch-export --format onnx "
        "--format program --seconds 1 --no-limits"
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
    across = replace(compared, options={"blocks": "12", "across_precisions": "on"})
    (same,) = [c for c in commands(replace(findings, compared=across)) if "--compare" in c]
    assert same == f"{line} --across-precisions"
    assert not any("--compare" in c for c in commands(gather(replaced(sample, "onnx"))))


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
            {"command": "train", "epochs": "3", "compile": "True"},
            "vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 --compile "
            "-o 'my bundle'",
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
            "# vgg-deploy load --weights my.pth --arch vgg11 --size 64 --head book --labels FILE "
            "-o 'my bundle'  # FILE: the names of its classes, one per line",
        ),
        (
            {"command": "train", "dataset": "sample", "processes": "4", "batch": "64"},
            "torchrun --standalone --nproc-per-node 4 -m vgg_deploy.train --arch vgg11 "
            "--width 0.25 --size 64 --data sample --batch 64 -o 'my bundle'",
        ),
        (
            {"command": "train", "training_precision": "bf16, then fp32", "processes": "1, then 2"},
            "torchrun --standalone --nproc-per-node 2 -m vgg_deploy.train --arch vgg11 "
            "--width 0.25 --size 64 --precision fp32 -o 'my bundle'",
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
            {"command": "train", "epochs": "3", "dataset": "folder my\nphotos"},
            "# vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 --data PATH "
            "-o 'my bundle'  # PATH: folder my photos",
        ),
        (
            {
                "command": "train",
                "dataset": "folder photos",
                "dataset_files": "d9503cdab7d47669",
                "fine_tuned_from": "ab" * 32,
                "freeze": "features",
                "recipe": "fine-tune",
            },
            "# vgg-deploy train --from BUNDLE --freeze features --data PATH --recipe fine-tune "
            "-o 'my bundle'  # BUNDLE: the one with checkpoint abababababab…; PATH: folder photos, "
            "digest d9503cdab7d47669",
        ),
        (
            {"command": "train", "dataset": "sample", "fine_tuned_from": "ab" * 32},
            "# vgg-deploy train --from BUNDLE --data sample -o 'my bundle'  # BUNDLE: the one with "
            "checkpoint abababababab…",
        ),
        ({"made_by": "hand"}, "vgg-deploy verify 'my bundle'"),
    ],
)
def test_the_first_command_makes_the_checkpoint(
    sample: Bundle, tmp_path: Path, made_by: dict[str, str], line: str
) -> None:
    lines = commands(gather(made_so(sample, tmp_path, made_by)))
    assert next(one for one in lines if "bits" not in one) == line


@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        (
            {"device": "cpu", "threads": "2", "torch": "2.14.1", "numpy": "2.4.6"},
            "# the same bits are to be expected on the same processor with torch 2.14.1, "
            "numpy 2.4.6\nOMP_NUM_THREADS=2 vgg-deploy train ... --deterministic --device cpu "
            "-o 'my bundle'",
        ),
        (
            {"device": "cpu", "threads": "2", "processes": "2", "torch": "2.14.1"},
            "# the same bits are to be expected on the same processor with torch 2.14.1\n"
            "OMP_NUM_THREADS=2 torchrun --standalone --nproc-per-node 2 -m vgg_deploy.train ... "
            "--deterministic --device cpu -o 'my bundle'",
        ),
        (
            {"device": "cuda", "threads": "2"},
            "# the same bits are to be expected on the same GPU with the same versions\n"
            "vgg-deploy train ... --deterministic --device cuda -o 'my bundle'",
        ),
        (
            {"device": "cpu", "threads": "2", "deterministic": "False"},
            "# other bits may come out: it was trained without --deterministic\n"
            "vgg-deploy train ... -o 'my bundle'",
        ),
        (
            {"device": "cpu", "threads": "2", "dataset": "sample"},
            "# the same bits are to be expected on the same processor with the same versions\n"
            "OMP_NUM_THREADS=2 vgg-deploy train ... --data sample --deterministic --device cpu "
            "-o 'my bundle'",
        ),
        (
            {"device": "cpu", "threads": "2", "dataset": "folder photos"},
            "# OMP_NUM_THREADS=2 vgg-deploy train ... --data PATH --deterministic --device cpu "
            "-o 'my bundle'  # PATH: folder photos",
        ),
        (
            {"device": "cpu", "threads": "2", "dataset": "folder photos", "images_file": "0"},
            "# the same bits are to be expected on the same processor with the same versions\n"
            "# OMP_NUM_THREADS=2 vgg-deploy train ... --data PATH --deterministic --device cpu "
            "-o 'my bundle'  # PATH: folder photos",
        ),
    ],
)
def test_whether_the_same_bits_come_out_stands_before_the_command(
    sample: Bundle, tmp_path: Path, made_by: dict[str, str], said: str
) -> None:
    bundle = made_so(sample, tmp_path, {"command": "train", "deterministic": "True", **made_by})
    lines = commands(gather(bundle))[: said.count("\n") + 1]
    network = "--arch vgg11 --width 0.25 --size 64"
    assert "\n".join(lines) == said.replace("...", network)


def made_so(sample: Bundle, tmp_path: Path, made_by: dict[str, str]) -> Bundle:
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
    return bundle


def draft(
    format: Format, precision: Precision, target: Target | None = None, **made_by: str
) -> Draft:
    one = TensorSpec(name="x", dtype="float32", shape=("batch", "any"), layout="NC")
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
