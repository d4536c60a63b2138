"""The commands that make a bundle and its results again, as far as the records tell.

Only what runs is printed as a command. One that the records do not tell in full is a comment, with
words in capitals for what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from vgg_deploy.report.command_line import DIR, PATH, bundle_name, each, line, untold
from vgg_deploy.report.findings import Findings
from vgg_deploy.report.remade_checkpoint import checkpoint_command, same_bits
from vgg_deploy.report.remade_files import build_commands, export_commands
from vgg_deploy.results import BenchReport, VerifyReport
from vgg_deploy.spec import NAMED_DATA


def commands(findings: Findings) -> tuple[str, ...]:
    """Command lines in the order they are to be run."""
    bundle = findings.bundle
    name = bundle_name(bundle)
    verify = findings.verify
    bench = _bench_options(findings.bench) if findings.bench else []
    lines = [
        same_bits(bundle),
        checkpoint_command(bundle, name),
        *export_commands(bundle, name),
        *build_commands(bundle, name),
        _verify(verify, name) if verify else line("verify", name),
        line("bench", name, *bench),
        _comparison(findings, name),
        line("report", name),
    ]
    return tuple(filter(None, lines))


def _verify(report: VerifyReport, name: str) -> str:
    told, missing = report.options, {}
    words = each("--batch", map(str, report.batches))
    for key in ("images", "data", "seed", "max_top1_drop"):
        if value := told.get(key):
            if key == "data" and value not in NAMED_DATA:
                missing[PATH], value = value, PATH
            words += [f"--{key.replace('_', '-')}", value]
    if "data_dir" in told:
        missing[DIR] = "the folder of the data set's files"
        words += ["--data-dir", DIR]
    words += _selected(report)
    words += ["--no-accuracy"] if told.get("accuracy") == "off" else []
    words += ["--locate"] if told.get("locate") else []
    command = line("verify", name, *words, *each("--fail-if", report.gates))
    return untold(command, **missing) if missing else command


def _bench_options(report: BenchReport) -> list[str]:
    told = report.options
    words = _selected(report)
    words += each("--batch", _batches(report))
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
    words = each("--compare", names)
    words += each("--batch", (str(contest.batch) for contest in findings.contests))
    if blocks := findings.compared.options.get("blocks"):
        words += ["--blocks", blocks]
    if findings.compared.options.get("across_precisions"):
        words += ["--across-precisions"]
    return line("bench", name, *words)


def _selected(report: VerifyReport | BenchReport) -> list[str]:
    """The backends, formats and precisions that were named, without those that came to no row.

    Such a name had no counterpart among the others, which is refused now.
    """
    subjects = [row.subject for row in report.rows]
    wanted = (
        ("backend", [subject.backend for subject in subjects]),
        ("format", [subject.format for subject in subjects]),
        ("precision", [subject.precision for subject in subjects]),
    )
    words: list[str] = []
    for key, has in wanted:
        asked = _names(report.options, key)
        words += each(f"--{key}", [name for name in asked if name in has] or asked)
    return words


def _named(told: Mapping[str, str], *keys: str) -> list[str]:
    """Options that may be given several times."""
    return [word for key in keys for word in each(f"--{key}", _names(told, key))]


def _names(told: Mapping[str, str], key: str) -> list[str]:
    return list(filter(None, told.get(key, "").split(", ")))
