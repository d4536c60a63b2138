"""The commands that make a bundle and its results again, as far as the records tell.

Only what runs is printed; a command that the records do not tell in full says so in a comment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.findings import Findings
from vgg_deploy.results import BenchReport, VerifyReport

_OPTIONS = {  # of train: option by its name in made_by
    "epochs": "--epochs",
    "dataset": "--data",
    "recipe": "--recipe",
    "batch": "--batch",
    "lr": "--lr",
    "seed": "--seed",
    "training_precision": "--precision",
    "accumulate": "--accumulate",
    "max_images": "--max-images",
    "validation": "--validation",
    "ema": "--ema",
}
EXPORTED = ("torchscript", "program", "aoti", "onnx")  # what export --format takes
_NAMED = ("fashion-mnist", "sample")  # data sets that a command line can name
_DEFAULT_BATCHES = ((1, 8, 64),)  # of build
_ENGINE_OPTIONS = {  # of build: option by its name in made_by
    "workspace": "--workspace",
    "optimization-level": "--optimization-level",
}
_ENGINE_FLAGS = ("hardware-compatible", "version-compatible", "strip-weights")


def commands(findings: Findings) -> tuple[str, ...]:
    """Command lines in the order they are to be run."""
    bundle = findings.bundle
    name = bundle_name(bundle)
    verify = findings.verify
    bench = _bench_options(findings.bench) if findings.bench else []
    lines = [
        _source(bundle, name),
        *_exports(bundle, name),
        *_builds(bundle, name),
        _verify(verify, name) if verify else _line("verify", name),
        _line("bench", name, *bench),
        _comparison(findings, name),
        _line("report", name),
    ]
    return tuple(line for line in lines if line)


def _exports(bundle: Bundle, name: str) -> list[str]:
    """One line for the plain files and their precisions, one for each kind of embedded file."""
    artifacts = bundle.artifacts
    formats = dict.fromkeys(a.format for a in artifacts if a.format in EXPORTED)
    words = _each("--format", formats)
    plain = [a for a in artifacts if a.format == "onnx" and a.precision != "fp32"]
    words += _each("--precision", dict.fromkeys(a.precision for a in plain))
    words += _calibration(plain, bundle.card.dataset)
    lines = [_line("export", name, *words)] if words else []
    kinds: dict[tuple[str, ...], list[str]] = {}
    for one in (a for a in artifacts if a.format == "embedded"):
        options = tuple(
            word
            for key, usual in (("resize", "portable"), ("topk", "0"))
            if (value := one.made_by.get(key, usual)) != usual
            for word in (f"--{key}", value)
        )
        kinds.setdefault(options, []).append(one.precision)
    for options, precisions in kinds.items():
        own = [] if precisions == ["fp32"] else _each("--precision", precisions)
        lines.append(_line("export", name, "--format", "onnx", *own, "--embedded", *options))
    return lines


def _calibration(files: Iterable[Artifact], dataset: str | None) -> list[str]:
    """What int8 and fp8 were measured on, where it is not the usual and all agree."""
    words = []
    for key, option, usual in (
        ("calibration_wanted", "--calibration-data", dataset or "sample"),
        ("calibration_images", "--calibration-images", "128"),
    ):
        values = {a.made_by[key] for a in files if key in a.made_by}
        if len(values) == 1 and values != {usual}:
            words += [option, *values]
    return words


def _builds(bundle: Bundle, name: str) -> list[str]:
    """A line for each way that engines were built in."""
    ways: dict[tuple[str, ...], list[str]] = {}
    for engine in bundle.artifacts:
        if engine.target is not None:
            ways.setdefault(_way(engine), []).append(engine.precision)
    return [
        _line("build", name, *way, *_each("--precision", dict.fromkeys(precisions)))
        for way, precisions in ways.items()
    ]


def _way(engine: Artifact) -> tuple[str, ...]:
    target, made_by = engine.target, engine.made_by
    if target is None:
        return ()
    words = ["--flavour", target.flavour.replace("_", "-")]
    if target.flavour == "tensorrt_rtx":  # it may have been built for a GPU that was not there
        words += ["--compute-capability", target.compute_capability]
    if target.batches and target.batches != _DEFAULT_BATCHES:
        words += _each("--batch", (":".join(map(str, sizes)) for sizes in target.batches))
    for key, option in _ENGINE_OPTIONS.items():
        if made_by.get(key, "default") != "default":
            words += [option, made_by[key]]
    words += [f"--{flag}" for flag in _ENGINE_FLAGS if made_by.get(flag) == "yes"]
    return tuple(words)


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
        words = _file(bundle, weights)
        if asked := made_by.get("preprocessing"):
            words += ["--preprocessing", asked]
        if made_by.get("ceil_mode") == "True":
            words.append("--ceil-mode")
        return _line("load", "--weights", weights, *words, "-o", name)
    return _train(bundle, checkpoint, name) if made_by.get("command") == "train" else ""


def _train(bundle: Bundle, checkpoint: Artifact, name: str) -> str:
    spec, made_by = bundle.card.spec, checkpoint.made_by
    if missing := _untold(made_by):
        one_line = " ".join(missing.split())  # a comment ends with its line
        return f"# trained with vgg-deploy train; {one_line} is not on record"
    words = ["--arch", spec.arch, "--width", f"{spec.width:g}", "--size", str(spec.size)]
    for key, option in _OPTIONS.items():
        if (value := made_by.get(key)) and (key, value) != ("accumulate", "1"):
            words += [option, value]
    if made_by.get("deterministic") == "True":
        words.append("--deterministic")
    if spec.fc_width != 4096:
        words += ["--fc-width", str(spec.fc_width)]
    if spec.head != "book":
        words += ["--head", spec.head]
    if spec.ceil_mode:
        words.append("--ceil-mode")
    return _line("train", *words, "-o", name)


def _file(bundle: Bundle, weights: str) -> list[str]:
    """What a local file may not say of itself; torchvision's names say it."""
    if re.fullmatch(r"\w+_Weights\.\w+", weights):
        return []
    spec = bundle.card.spec
    return ["--arch", spec.arch, "--size", str(spec.size), "--head", spec.head]


def _untold(made_by: Mapping[str, str]) -> str:
    """What a training command needs and the records do not hold; empty if they have it all."""
    if "fine_tuned_from" in made_by:
        return f"the bundle it started from (checkpoint {made_by['fine_tuned_from'][:12]}…)"
    data = made_by.get("dataset", "")
    return f"the path of the data ({data})" if data and data not in _NAMED else ""


def _verify(report: VerifyReport, name: str) -> str:
    told = report.options
    words = _each("--batch", map(str, report.batches))
    for key in ("images", "data", "seed", "max_top1_drop"):
        if value := told.get(key):
            words += [f"--{key.replace('_', '-')}", value]
    words += _named(told, "backend", "format")
    words += ["--no-accuracy"] if told.get("accuracy") == "off" else []
    words += ["--locate"] if told.get("locate") else []
    line = _line("verify", name, *words, *_each("--fail-if", report.gates))
    if "data_dir" in told or told.get("data", _NAMED[0]) not in _NAMED:
        return f"# {' '.join(line.split())}; the path of the images is not on record"
    return line


def _bench_options(report: BenchReport) -> list[str]:
    told = report.options
    words = _named(told, "backend", "format")
    words += _each("--batch", _batches(report))
    for key in ("seconds", "percentile"):
        if value := told.get(key):
            words += [f"--{key}", value]
    words += ["--no-cuda-graph"] if told.get("cuda_graph") == "off" else []
    words += [] if _with_limits(report) else ["--no-limits"]
    return words + _named(told, "fail-if")


def _batches(report: BenchReport) -> list[str]:
    """The sizes that were asked for; none: the usual ones, which not every file takes."""
    if asked := report.options.get("batch"):
        return [] if asked == "usual" else asked.split(", ")
    rows = [row for row in report.rows if row.batch]
    if any(row.status == "skipped" for row in rows):
        return []
    return list(map(str, sorted({row.batch for row in rows})))


def _with_limits(report: BenchReport) -> bool:
    if asked := report.options.get("limits"):
        return asked == "on"
    measured = any(row.status == "measured" for row in report.rows)
    return bool(report.ceilings or report.layers) or not measured


def _comparison(findings: Findings, name: str) -> str:
    """The comparison in turns: each contender with its file, which a name alone may leave open."""
    if not findings.compared or not findings.contests:
        return ""
    names = [subject.id for subject in findings.contests[0].subjects]
    words = _each("--compare", names)
    words += _each("--batch", (str(contest.batch) for contest in findings.contests))
    if blocks := findings.compared.options.get("blocks"):
        words += ["--blocks", blocks]
    return _line("bench", name, *words)


def _named(told: Mapping[str, str], *keys: str) -> list[str]:
    """Options that may be given several times."""
    return [
        word for k in keys for word in _each(f"--{k}", filter(None, told.get(k, "").split(", ")))
    ]


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _line(*words: str) -> str:
    return shlex.join(("vgg-deploy", *words))
