"""Tables of ``vgg-deploy summary``: the book's rows, every weight layer, two networks compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vgg_deploy.model.summary import Cost, Summary
from vgg_deploy.report.quantities import percent, size, times
from vgg_deploy.report.table import Column, Table, simple_table


def summary_tables(summary: Summary) -> tuple[Table, Table, Table]:
    """Blocks and later layers as the book prints them; all weight layers; the totals."""
    return _book_table(summary), _layers_table(summary), _cost_table(summary)


def versus_table(ours: Summary, other: Summary) -> Table:
    """Two networks side by side, and how many times more the first one costs."""
    rows = [
        (name, text(ours.cost), text(other.cost), times(value(ours.cost) / value(other.cost)))
        for name, value, text in _COSTS
    ]
    heaviest = max(ours.layers, key=lambda layer: layer.macs)
    note = (
        f"{ours.name} keeps maps large for long and spends "
        f"{percent(ours.cost.conv_macs / ours.cost.macs)} of its multiply-adds in convolutions, "
        f"{other.name} {percent(other.cost.conv_macs / other.cost.macs)}. Its most expensive "
        f"layer is {heaviest.name} on a {'×'.join(map(str, heaviest.shape))} output."
    )
    columns = [
        Column(name="Cost for one image, fp32"),
        Column(name=ours.name, align="right"),
        Column(name=other.name, align="right"),
        Column(name="ratio", align="right"),
    ]
    return simple_table(f"{ours.name} against {other.name}", columns, rows, note=note)


def _book_table(summary: Summary) -> Table:
    rows = [
        (row.name, _shape((1, *row.shape)), f"{row.params:,}", _mega(row.macs))
        for row in summary.rows
    ]
    columns = [
        Column(name="Layer"),
        Column(name="Output shape"),
        Column(name="Parameters", align="right"),
        Column(name="Multiply-adds", unit="M", align="right"),
    ]
    return simple_table(summary.name, columns, rows, note=". ".join(summary.notes) + ".")


def _layers_table(summary: Summary) -> Table:
    layers = summary.weight_layers
    rows = [
        (
            str(index),
            layer.name,
            _shape(layer.shape),
            f"{layer.params:,}",
            _mega(layer.macs),
            percent(layer.macs / summary.cost.macs),
            size(layer.output_bytes),
        )
        for index, layer in enumerate(layers, start=1)
    ]
    columns = [
        Column(name="#", align="right"),
        Column(name="Weight layer"),
        Column(name="Output"),
        Column(name="Parameters", align="right"),
        Column(name="Multiply-adds", unit="M", align="right"),
        Column(name="Share", align="right"),
        Column(name="Output size", align="right"),
    ]
    return simple_table(f"The {len(layers)} weight layers", columns, rows)


def _cost_table(summary: Summary) -> Table:
    rows = [(name, text(summary.cost)) for name, _, text in _COSTS]
    columns = [Column(name="Cost, fp32, for one image"), Column(name="", align="right")]
    return simple_table("Cost", columns, rows)


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _mega(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _giga(count: int) -> str:
    return f"{count / 1e9:,.3f} G"


_COSTS: tuple[tuple[str, Callable[[Cost], float], Callable[[Cost], str]], ...] = (
    ("parameters", lambda c: c.params, lambda c: f"{c.params:,}"),
    ("of these fully connected", lambda c: c.fc_params, lambda c: f"{c.fc_params:,}"),
    ("multiply-adds", lambda c: c.macs, lambda c: _giga(c.macs)),
    ("of these in convolutions", lambda c: c.conv_macs, lambda c: _giga(c.conv_macs)),
    ("of these fully connected", lambda c: c.fc_macs, lambda c: _giga(c.fc_macs)),
    (
        "inference: largest input and output of a layer",
        lambda c: c.peak_activation_bytes,
        lambda c: size(c.peak_activation_bytes),
    ),
    (
        "training: activations kept for the gradient",
        lambda c: c.saved_bytes,
        lambda c: size(c.saved_bytes),
    ),
    (
        "training: weights, gradients, momentum (any batch)",
        lambda c: c.state_bytes,
        lambda c: size(c.state_bytes),
    ),
)
