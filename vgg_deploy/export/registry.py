"""``export``: one explicit table of formats, and the reuse of what is still valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, unknown_choice
from vgg_deploy.export import to_onnx, to_program, to_torchscript
from vgg_deploy.export.described import require_described
from vgg_deploy.export.guard import claim_space, imports, resources
from vgg_deploy.export.source import ExportOptions, Source
from vgg_deploy.libraries import import_torch
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import input_spec, output_spec

PRECISION: Precision = "fp32"
_OVERHEAD = 2 << 20  # bytes a file holds beside the weights: graph, texts, code


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """How one format is made.

    ``made_by`` names every version and option that shapes the bytes; ``write`` makes the file;
    ``missing`` says why it cannot be made here; ``copies`` is how many times the checkpoint's
    size the disk must hold while it is made.
    """

    made_by: Callable[[ExportOptions], dict[str, str]]
    write: Callable[[Source, Path], None]
    missing: Callable[[], BackendNotAvailable | None] = lambda: None
    copies: float = 1.0


_EXPORTERS: Mapping[Format, Exporter] = {
    "torchscript": Exporter(made_by=to_torchscript.made_by, write=to_torchscript.write),
    "program": Exporter(made_by=to_program.made_by, write=to_program.write),
    "aoti": Exporter(
        made_by=to_program.aoti_made_by,
        write=to_program.write_aoti,
        missing=to_program.aoti_missing,
        copies=4.0,
    ),
    "onnx": Exporter(made_by=to_onnx.made_by, write=to_onnx.write),
}
EXPORT_FORMATS: list[Format] = list(_EXPORTERS)


def export(
    bundle: Bundle, format: Format, *, options: ExportOptions | None = None
) -> tuple[Bundle, Artifact, bool]:
    """Make the fp32 artifact of ``format`` from the bundle's checkpoint, or keep a valid one.

    Returns the bundle with the artifact in it, the artifact, and whether it was reused: it is,
    when its parent is the checkpoint, versions and options are equal and its digest holds.
    An interrupted export leaves the old file and manifest as they were.

    Raises ``UsageError`` (no such format), ``DigestMismatch`` (edited checkpoint or manifest),
    ``RefusedInput``, ``ResourceLimit`` (disk, memory, 2 GB of protobuf) and
    ``BackendNotAvailable`` (no torch, no C++ compiler).
    """
    if format not in _EXPORTERS:
        raise unknown_choice("export format", format, EXPORT_FORMATS)
    options = options or ExportOptions()
    exporter = _EXPORTERS[format]
    import_torch(f"export to {format}")  # before any work: its absence is the first thing said
    if missing := exporter.missing():
        raise missing
    bundle.check([bundle.checkpoint])
    require_described(bundle)
    made_by = exporter.made_by(options)
    parent = bundle.checkpoint.sha256
    if valid := valid_artifact(bundle, format, PRECISION, parent, made_by):
        return bundle, valid, True
    source = _source(bundle, options, made_by)
    need = int((bundle.checkpoint.size_bytes + _OVERHEAD) * exporter.copies)
    claim_space(bundle.root, need, f"export to {format}")
    bundle, artifact = bundle.add(_draft(source, format), _writer(exporter, source, format))
    return bundle, artifact, False


def valid_artifact(
    bundle: Bundle, format: Format, precision: Precision, parent: str, made_by: Mapping[str, str]
) -> Artifact | None:
    """The artifact that is there already, if its parent, versions, options and digest hold."""
    artifact = bundle.find(format, precision)
    if artifact is None or artifact.parent != parent:
        return None
    if dict(artifact.made_by) != dict(made_by) or bundle.problem(artifact):
        return None
    return artifact


def _source(bundle: Bundle, options: ExportOptions, made_by: Mapping[str, str]) -> Source:
    checkpoint = bundle.checkpoint
    path = bundle.path(checkpoint)
    return Source(
        path=path, card=bundle.card, sha256=checkpoint.sha256, options=options, made_by=made_by
    )


def _draft(source: Source, format: Format) -> Draft:
    return Draft(
        format=format,
        precision=PRECISION,
        input=input_spec(source.card),
        output=output_spec(source.card),
        parent=source.sha256,
        made_by=source.made_by,
    )


def _writer(exporter: Exporter, source: Source, format: Format) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        doing = f"export to {format}"
        with imports(doing), resources(doing):
            exporter.write(source, path)

    return write
