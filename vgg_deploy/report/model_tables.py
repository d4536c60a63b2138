"""Tables of what the network is, from its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vgg_deploy.errors import counted
from vgg_deploy.report.table import Column, Table, simple_table
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

_LABELS = 10  # that are told of many


def model_table(card: ModelCard) -> Table:
    """Architecture, input, preprocessing and data set of a model card."""
    spec = card.spec
    rows = [
        ("Architecture", f"{spec.arch}, {spec.weight_layers} weight layers"),
        ("conv_arch", ", ".join(f"({n}, {channels})" for n, channels in spec.conv_arch)),
        ("Width", f"{spec.width:g}× of these channels"),
        ("Input", f"{spec.channels} × {spec.size} × {spec.size}"),
        ("Classes", f"{spec.classes:,}"),
        ("Head", f"{spec.head}, {_hidden(spec)}"),
        ("Normalisation", _normalisation(spec)),
        ("Preprocessing", preprocessing_text(card.preprocessing)),
        ("Data set", card.dataset or "not on record"),
    ]
    columns = [Column(name="What"), Column(name="Value", align="prose")]
    return simple_table("Card", columns, [row for row in rows if row[1]])


def network_table(card: ModelCard, made_by: Mapping[str, str]) -> Table:
    """The network of a bundle at a glance; ``made_by`` is its checkpoint's."""
    spec = card.spec
    rows = [
        ("Architecture", f"{spec.arch}, {spec.weight_layers} weight layers, width {spec.width:g}×"),
        (
            "Input",
            f"{spec.size} px, {spec.channels} {'channel' if spec.channels == 1 else 'channels'}",
        ),
        ("Classes", f"{spec.classes:,}: {_shortened(card.labels)}"),
        ("Preprocessing", preprocessing_text(card.preprocessing)),
        ("Weights", _origin(card, made_by)),
    ]
    return simple_table("Network", [Column(name="What"), Column(name="Value", align="prose")], rows)


def _shortened(labels: Sequence[str]) -> str:
    if len(labels) <= _LABELS:
        return ", ".join(labels)
    return f"{', '.join(labels[: _LABELS - 1])} … {labels[-1]}"


def _origin(card: ModelCard, made_by: Mapping[str, str]) -> str:
    """Where the weights came from, as far as it is on record."""
    if "weights" in made_by:
        trained = f", trained on {card.dataset}" if card.dataset else ""
        return f"loaded from {made_by['weights']}{trained}"
    if made_by.get("command") != "train":
        return "not on record"
    epochs, source = made_by.get("epochs", ""), made_by.get("fine_tuned_from", "")
    length = f", {counted(int(epochs), 'epoch')}" if epochs.isdecimal() else ""
    begun = f", begun with checkpoint {source[:12]}…" if source else ""
    return f"trained on {made_by.get('dataset', card.dataset)}{length}{begun}"


def blocks_table(spec: ModelSpec) -> Table:
    """One row per VGG block, as built: ``conv_arch`` with the width factor applied."""
    columns = [
        Column(name="Block"),
        Column(name="3×3 convolutions", align="right"),
        Column(name="1×1 convolutions", align="right"),
        Column(name="Channels", align="right"),
        Column(name="Map after pooling", align="right"),
    ]
    pointwise = spec.pointwise or (0,) * len(spec.blocks)
    cells = zip(spec.blocks, pointwise, spec.map_sizes[1:], strict=True)
    rows = [
        (str(i), str(n - small), str(small) if small else "", f"{channels:,}", f"{side} × {side}")
        for i, ((n, channels), small, side) in enumerate(cells, start=1)
    ]
    widths = (spec.flat_features, *(spec.fc_width,) * spec.hidden, spec.classes)
    note = f"Then fully connected: {' → '.join(f'{width:,}' for width in widths)}."
    return simple_table("VGG blocks", columns, rows, note=note).without_empty_columns()


def _hidden(spec: ModelSpec) -> str:
    if not spec.hidden:
        return "no hidden layer"
    many = "two hidden layers" if spec.hidden == 2 else "one hidden layer"
    return f"{many} of {spec.fc_width:,}"


def _normalisation(spec: ModelSpec) -> str:
    kinds = (("batch norm", spec.batch_norm), ("local response normalisation", spec.lrn))
    return ", ".join(name for name, used in kinds if used)


def preprocessing_text(value: Preprocessing) -> str:
    """How an image becomes the network's input, in one line."""
    if value.resize is None:
        fit = f"resize to {value.size} × {value.size}"
    else:
        fit = f"shorter side to {value.resize}, centre crop of {value.size}"
    means, deviations = (", ".join(f"{v:g}" for v in vs) for vs in (value.mean, value.std))
    low, high = value.value_range
    return (
        f"{fit} ({value.interpolation}); values from {low:g} to {high:g}; "
        f"mean {means}; standard deviation {deviations}"
    )
