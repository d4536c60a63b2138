"""The commands that make a bundle and its results again, as far as the records tell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.findings import Findings
from vgg_deploy.results import BenchReport

_OPTIONS = {  # of train: option by its name in made_by
    "epochs": "--epochs",
    "dataset": "--data",
    "recipe": "--recipe",
    "batch": "--batch",
    "lr": "--lr",
    "seed": "--seed",
    "training_precision": "--precision",
}


def commands(findings: Findings) -> tuple[str, ...]:
    """Command lines in the order they are to be run."""
    bundle = findings.bundle
    name = bundle_name(bundle)
    lines = [_source(bundle, name)]
    formats = dict.fromkeys(a.format for a in bundle.artifacts if a.format != "checkpoint")
    if formats:
        lines.append(_line("export", name, *_each("--format", formats)))
    verify = findings.verify
    batches = _each("--batch", map(str, verify.batches)) if verify else []
    lines.append(_line("verify", name, *batches))
    lines.append(_line("bench", name, *(_bench_options(findings.bench) if findings.bench else [])))
    lines.append(_line("report", name))
    return tuple(line for line in lines if line)


def bundle_name(bundle: Bundle) -> str:
    """The bundle as one would type it; of an absolute path only its last part."""
    root = bundle.root
    return root.name if root.is_absolute() or ".." in root.parts else str(root)


def _source(bundle: Bundle, name: str) -> str:
    checkpoint = bundle.find("checkpoint")
    if checkpoint is None:
        return ""
    made_by = checkpoint.made_by
    if weights := made_by.get("weights"):
        return _line("load", "--weights", weights, "-o", name)
    return _train(bundle, checkpoint, name) if made_by.get("command") == "train" else ""


def _train(bundle: Bundle, checkpoint: Artifact, name: str) -> str:
    spec, made_by = bundle.card.spec, checkpoint.made_by
    words = ["--arch", spec.arch, "--width", f"{spec.width:g}", "--size", str(spec.size)]
    for key, option in _OPTIONS.items():
        if value := made_by.get(key):
            words += [option, value]
    if spec.fc_width != 4096:
        words += ["--fc-width", str(spec.fc_width)]
    if spec.head != "book":
        words += ["--head", spec.head]
    if spec.ceil_mode:
        words.append("--ceil-mode")
    return _line("train", *words, "-o", name)


def _bench_options(report: BenchReport) -> list[str]:
    batches = sorted({row.batch for row in report.rows if row.batch})
    words = _each("--batch", map(str, batches))
    for key in ("seconds", "percentile"):
        if value := report.options.get(key):
            words += [f"--{key}", value]
    return words


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _line(*words: str) -> str:
    return shlex.join(("vgg-deploy", *words))
