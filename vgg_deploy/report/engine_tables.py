"""The tables of ``vgg-deploy build`` and ``vgg-deploy inspect --engine``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vgg_deploy.artifact import Artifact
from vgg_deploy.errors import counted
from vgg_deploy.report.quantities import MISSING, duration, size
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table
from vgg_deploy.trt.layers import EngineNotes, Layer
from vgg_deploy.trt.match import settings_of


class Built(Protocol):
    """One engine that was wanted; see ``vgg_deploy.pipeline.build.Built``."""

    @property
    def precision(self) -> str:
        """What was asked for."""
        ...

    @property
    def compute_capability(self) -> str | None:
        """What was asked for; None: the GPU that is here."""
        ...

    @property
    def engine(self) -> Artifact | None:
        """What was made or kept."""
        ...

    @property
    def notes(self) -> EngineNotes | None:
        """Its layers and build."""
        ...

    @property
    def reused(self) -> bool:
        """Whether it was kept."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not there."""
        ...


def built_table(done: Sequence[Built]) -> Table:
    """One row per engine that was wanted; one that failed says why."""
    columns = [
        Column(name="Engine"),
        Column(name="Precision"),
        Column(name="For"),
        Column(name="Size", align="right"),
        Column(name="Build", align="right"),
        Column(name="Computes in"),
        Column(name="Reason", align="prose"),
    ]
    rows = [_built_row(row) for row in done]
    statuses: list[RowStatus] = ["ok" if row.engine else "failed" for row in done]
    made = sum(row.engine is not None for row in done)
    note = f"{made} of {len(done)} there."
    table = simple_table("Engines", columns, rows, statuses=statuses, note=note)
    return table.without_empty_columns()


def engine_table(engine: Artifact, notes: EngineNotes) -> Table:
    """The layers of an engine as TensorRT tells them."""
    columns = [
        Column(name="Layer"),
        Column(name="Kind"),
        Column(name="In"),
        Column(name="Out"),
        Column(name="Kernel"),
        Column(name="ONNX nodes", align="prose"),
    ]
    rows = [_layer_row(layer) for layer in notes.layers]
    said = f"{counted(len(rows), 'layer')}, from the {notes.source}"
    note = f"{said}; convolutions and matrix products in {computed_in(notes)}."
    if settings := settings_of(engine):
        note += f" Built with {settings}."
    table = simple_table(str(engine.path), columns, rows, note=note)
    return table.without_empty_columns()


def computed_in(notes: EngineNotes) -> str:
    """``"16 × fp16"``: how many products are computed in which type; by profile if they differ."""
    texts = [_computed(found, len(notes.products)) for found in notes.computed_by_profile()]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"profile {i}: {text}" for i, text in enumerate(texts))


def _computed(found: Mapping[str, int], products: int) -> str:
    told = [f"{n} × {kind}" for kind, n in sorted(found.items())]
    if told and (missing := products - sum(found.values())) > 0:
        told.append(f"{missing} of {products} not told")
    return ", ".join(told) or "types not told"


def _built_row(row: Built) -> tuple[str, ...]:
    engine, notes = row.engine, row.notes
    if engine is None or notes is None:
        wanted = row.compute_capability or ""
        return (MISSING, row.precision, wanted, "", "", "", row.reason)
    target = engine.target
    return (
        str(engine.path),
        row.precision,
        target.compute_capability if target else "",
        size(engine.size_bytes),
        "reused" if row.reused else duration(notes.seconds),
        computed_in(notes),
        "",
    )


def _layer_row(layer: Layer) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        ", ".join(layer.inputs),
        ", ".join(layer.outputs),
        layer.tactic,
        ", ".join(layer.nodes),
    )
