"""Write an app: its template, the model, the labels and the golden vectors; whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from vgg_deploy import __version__
from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.embed.check import check_app, require_tools
from vgg_deploy.embed.record import require_app, write_record
from vgg_deploy.embed.targets import RECORD, TABLE, Target, TargetName, unknown_target
from vgg_deploy.errors import DigestMismatch, RefusedInput, os_errors, unknown_choice
from vgg_deploy.files import commit, commit_into, commit_over, sha256_of, staged, word
from vgg_deploy.golden import FOLDER as GOLDEN
from vgg_deploy.golden import GoldenIndex, GoldenTolerance, load_index, problem_of, refuse_vacuous
from vgg_deploy.spec import unnamed_labels
from vgg_deploy.verify.said import require_own

_TEMPLATES = Path(__file__).parent / "templates"
_TEMPLATE = ".j2"  # rendered, and dropped from the name; every other file is copied
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")  # read by every app's runtime


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """Which app, and whether it proves itself before it gets its name."""

    target: TargetName
    precision: Precision = "fp32"
    test: bool = False  # install, build and run the app's own test; needs its tools
    update: bool = False  # replace the model of an app that is there, and nothing else

    def __post_init__(self) -> None:
        if self.target not in TABLE:
            raise unknown_target(self.target)
        if self.precision not in PRECISIONS:
            raise unknown_choice("precision for apps", self.precision, PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class Written:
    """An app that was written."""

    folder: Path
    target: TargetName
    title: str
    model_sha256: str
    files: tuple[str, ...]  # relative to the folder; of an update, those that were replaced
    missing_tools: tuple[str, ...]  # what to install here before its test can run
    tested: bool


def embed_bundle(bundle: Bundle, out: Path, options: EmbedOptions) -> Written:
    """Write the app of ``options.target`` to the folder ``out``.

    With ``options.update`` it replaces the model of such an app in ``out``, with all that goes with
    it; the test is then of a new app, beside, with that model.

    Raises ``RefusedInput`` when the bundle holds no embedded file or no labels, ``out`` holds
    something (or, to update, no such app, or one whose texts were edited), or the app's own test
    would pass an answer that ignores the image;
    ``DigestMismatch`` for an edited model, manifest or golden vector; ``BackendNotAvailable`` when
    the app is to be tested and a tool is missing; ``NotEquivalent`` when its test fails.
    """
    target, place = TABLE[options.target], _place(out, options)
    missing = require_tools(target, refuse=options.test)
    artifact = _embedded(bundle, options)
    _check_resize(bundle, artifact, options.target)
    _check_labels(bundle)
    bundle.check([artifact])
    require_own(bundle.path(artifact), artifact.format, bundle.card)
    bundle.check_golden()
    values = _values(bundle, artifact, options.target)
    beside = place / options.target if place.is_dir() else place  # on the same disk
    with staged(beside) as partial, os_errors(f"write {out}"):
        _fill(partial, target, bundle, artifact, values)
        write_record(partial, options.target, target)
        if options.test:
            check_app(target, partial)
        own = own_files(target) if options.update else None
        files = _names(partial, own)
        _commit(partial, place, own)
    return Written(
        folder=out,
        target=options.target,
        title=target.title,
        model_sha256=artifact.sha256,
        files=files,
        missing_tools=missing,
        tested=options.test,
    )


def own_files(target: Target) -> tuple[str, ...]:
    """The files and folders of an app that are one model's own."""
    return (target.model, target.labels, GOLDEN, *target.bound, "README.md", RECORD)


def _names(folder: Path, own: tuple[str, ...] | None) -> tuple[str, ...]:
    """What is in a folder, or of that only what is one model's own."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    wanted = {Path(name) for name in own or ()}
    return tuple(str(n) for n in names if own is None or wanted & {n, *n.parents})


def _place(out: Path, options: EmbedOptions) -> Path:
    """Where ``out`` is, whatever ``..`` in it means: an app to update, or a new or empty folder."""
    with os_errors(f"read {out}"):
        place = Path(os.path.realpath(out))
    linked = out.is_symlink() and not options.update
    if linked or (place.exists() and not place.is_dir()):
        raise RefusedInput(f"{out} is not a folder", "choose a new folder with -o")
    if options.update:
        require_app(place, options.target, TABLE[options.target])
    elif place.is_dir():
        _refuse_used(place)
    return place


def _refuse_used(folder: Path, *, besides: Path | None = None) -> None:
    with os_errors(f"read {folder}"):
        held = next((path.name for path in folder.iterdir() if path != besides), None)
    if held is not None:
        raise RefusedInput(
            f"{folder} is not empty: it holds {held}", "choose a new or an empty folder with -o"
        )


def _commit(partial: Path, place: Path, own: tuple[str, ...] | None) -> None:
    if own is not None:
        commit_over(partial, place, own)
    elif place.is_dir():
        _refuse_used(place, besides=partial.parent)
        commit_into(partial, place)
    else:
        commit(partial, place)


def _embedded(bundle: Bundle, options: EmbedOptions) -> Artifact:
    artifact = bundle.find("embedded", options.precision)
    if artifact is None:
        raise RefusedInput(
            f"{bundle.root} holds no {options.precision} ONNX file for other apps",
            _make(bundle, options.precision),
        )
    return artifact


def _make(bundle: Bundle, precision: Precision) -> str:
    words = "--embedded" if precision == "fp32" else f"--precision {precision} --embedded"
    return f"make it: vgg-deploy export {word(bundle.root)} --format onnx {words}"


def _check_resize(bundle: Bundle, artifact: Artifact, name: TargetName) -> None:
    resize = artifact.made_by.get("resize", "portable")
    again = _make(bundle, artifact.precision)
    if resize == "none":
        raise RefusedInput(f"{artifact.path} takes images of one size only", again)
    if resize == "native" and TABLE[name].ignores_antialias:
        raise RefusedInput(
            f"{artifact.path} resizes with ONNX's Resize, which {name} computes wrongly", again
        )


def _check_labels(bundle: Bundle) -> None:
    labels = bundle.card.labels
    if labels == unnamed_labels(len(labels)):
        raise RefusedInput(
            f"{bundle.root} has no labels, only numbers for its {len(labels)} classes",
            "load the weights again with --labels labels.txt (one label per line)",
        )


def _values(bundle: Bundle, artifact: Artifact, name: TargetName) -> dict[str, Any]:
    """What templates may use."""
    card, golden = bundle.card, load_index(bundle.root / GOLDEN)
    return {
        "title": f"{card.spec.arch} ({len(card.labels)} classes)",
        "labels": card.labels,
        "classes": len(card.labels),
        "channels": card.spec.channels,
        "size": card.spec.size,
        "precision": artifact.precision,
        "sha256": artifact.sha256,
        "megabytes": f"{artifact.size_bytes / 1e6:.1f}",
        "target": TABLE[name],
        "target_name": name,
        "record": RECORD,
        "version": __version__,
        "golden": golden,
        "limits": _limits(golden, artifact),
    }


def _limits(golden: GoldenIndex, artifact: Artifact) -> GoldenTolerance:
    limits = golden.tolerances.get(artifact.precision)
    if limits is None:
        raise RefusedInput(
            f"the golden vectors have no tolerance for {artifact.precision}",
            "export again: the vectors are made with the file",
        )
    refuse_vacuous(golden, artifact.precision)  # the app's own test would pass anything
    return limits


def _fill(
    folder: Path, target: Target, bundle: Bundle, artifact: Artifact, values: Mapping[str, Any]
) -> None:
    environment = jinja2.Environment(  # noqa: S701  source code and Markdown, no HTML
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    for part, below in target.parts:
        for source in _files(_TEMPLATES / part):
            path = folder / below / source.relative_to(_TEMPLATES / part)
            path.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == _TEMPLATE:
                template = environment.get_template(str(source.relative_to(_TEMPLATES)))
                path.with_suffix("").write_text(template.render(values), encoding="utf-8")
            else:
                shutil.copyfile(source, path)
    _copy_model(folder, target, bundle, artifact)


def _copy_model(folder: Path, target: Target, bundle: Bundle, artifact: Artifact) -> None:
    model, labels = folder / target.model, folder / target.labels
    model.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle.path(artifact), model)
    labels.write_text(_label_text(bundle.card.labels, labels.suffix), encoding="utf-8")
    (folder / GOLDEN).mkdir()
    for source in _files(bundle.golden_folder):  # without its rights: it may be read-only
        shutil.copyfile(source, folder / GOLDEN / source.name)
    _check_copies(model, folder / GOLDEN, bundle, artifact)


def _check_copies(model: Path, golden: Path, bundle: Bundle, artifact: Artifact) -> None:
    """The bundle may have changed since it was checked."""
    record = bundle.manifest.golden
    if sha256_of(model) != artifact.sha256 or (record and problem_of(golden, record)):
        raise DigestMismatch(
            f"{bundle.root} changed while it was read", "wait until nothing writes to it"
        )


def _label_text(labels: tuple[str, ...], suffix: str) -> str:
    if suffix == ".txt":
        return "".join(" ".join(label.splitlines()) + "\n" for label in labels)
    return json.dumps(labels, ensure_ascii=False, indent=1) + "\n"


def _files(folder: Path) -> Iterator[Path]:
    """The files of a template, without what a tool may have left there."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_file() and not {"__pycache__", "node_modules"} & set(inside):
            yield path
