"""A text file with a label per line, one for each class."""

from __future__ import annotations

from pathlib import Path

from vgg_deploy.errors import RefusedInput, counted, require_file


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The labels in their order; empty lines do not count.

    Raises ``RefusedInput`` for another number of them, and for one that stands there twice.
    """
    require_file(path, "labels file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RefusedInput(f"{path} is not UTF-8 text", "give one label per line") from error
    labels = [(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip()]
    if len(labels) != classes:
        raise RefusedInput(
            f"{path} has {counted(len(labels), 'label')} for "
            f"{counted(classes, 'class', 'classes')}",
            "give one label per line, one per class",
        )
    first: dict[str, int] = {}
    for label, number in labels:
        if label in first:
            raise RefusedInput(
                f"{path} has {label!r} twice, in lines {first[label]} and {number}",
                "give every class a label of its own",
            )
        first[label] = number
    return tuple(first)
