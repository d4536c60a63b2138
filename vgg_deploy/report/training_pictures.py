"""PNG pictures of a training run: learning curves, confusion matrix, worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.files import atomic
from vgg_deploy.libraries import why_not
from vgg_deploy.report.canvas import drawing, spread
from vgg_deploy.report.learning import kept_epoch, kept_text

P = ParamSpec("P")
_INK, _MUTED, _BLUE, _ORANGE = "#1d2226", "#59636b", "#2f6690", "#c2571a"
_GREEN, _RULE = "#3d7a3a", "#b9bfc2"
_DPI = 120
_LINE = 0.075  # height of a line of text, as a share of an axis
# Asked for in this order where installed; matplotlib's own font has no Chinese, Japanese or Korean.
_MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB",
    "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip
_LONGEST = 26  # signs of a file's name below an image
_COLUMNS = 6  # images side by side in the gallery


def _drawn(draw: Callable[P, None]) -> Callable[P, None]:
    """Class names are drawn as they are, with signs for formulas or without a glyph, too."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> None:
        require_matplotlib()
        with drawing():
            from matplotlib import rc_context

            with rc_context({"font.size": 10, "font.family": _families()}):
                draw(*args, **options)

    return drawn


def _families() -> list[str]:
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _MORE_FONTS if name in installed)]


def drawn_names(labels: Sequence[str]) -> list[str]:
    """Class names as a picture can show them: by number where no font here has their signs."""
    require_matplotlib()
    drawable = _drawable()
    return [
        name if all(map(drawable, name)) else f"class {number}"
        for number, name in enumerate(labels)
    ]


def _drawable() -> Callable[[str], bool]:
    """Says of a sign whether some font here has it."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    paths = [font_manager.findfont(name) for name in _families()]
    fonts = [FT2Font(path) for path in paths]

    def has(sign: str) -> bool:
        return sign.isspace() or any(font.get_char_index(ord(sign)) for font in fonts)

    return has


def _file_names(files: Sequence[str]) -> list[str]:
    """The ends of their names, on one line, with a sign in the place of those no font has."""
    drawable = _drawable()
    short = (name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in files)
    return ["".join(s if s.isprintable() and drawable(s) else "?" for s in name) for name in short]


@_drawn
def curves_png(path: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Loss and accuracy of training and test after each epoch.

    Raises ``BackendNotAvailable`` without matplotlib, as all functions here.
    """
    figure = _figure(8, 3.4)
    epochs = [row["epoch"] for row in metrics]
    kept = kept_epoch(metrics)
    for place, (what, name) in enumerate((("loss", "Loss"), ("accuracy", "Accuracy")), start=1):
        axes = figure.add_subplot(1, 2, place)
        train = "loss" if what == "loss" else "train_accuracy"
        lines = {
            label: (colour, [row[key] for row in metrics])
            for key, label, colour in (
                (train, "train", _ORANGE),
                (f"validation_{what}", "validation", _GREEN),
                (f"test_{what}", "test", _BLUE),
            )
            if metrics[-1].get(key) is not None
        }
        for colour, values in lines.values():
            axes.plot(epochs, values, color=colour, marker="o", markersize=3, linewidth=1.4)
        if kept is not None and len(epochs) > 1:
            axes.axvline(kept["epoch"], color=_RULE, linewidth=1, zorder=0)
        bottom, top = axes.get_ylim()
        line = (top - bottom) * _LINE
        heights = spread([values[-1] for _, values in lines.values()], line)
        axes.set_ylim(min(bottom, min(heights) - line), max(top, max(heights) + line))
        for height, (label, (colour, values)) in zip(heights, lines.items(), strict=True):
            text = f"  {label} {values[-1]:.3f}"
            axes.annotate(text, (epochs[-1], height), color=colour, va="center")
        axes.set_title(name, loc="left", color=_INK, fontsize=11)
        axes.set_xlabel("epoch", color=_MUTED)
        axes.margins(x=0.02)
        axes.set_xlim(right=epochs[-1] + 0.3 * max(1, epochs[-1] - epochs[0]))
        step = max(1, -(-len(epochs) // 8))
        axes.set_xticks(epochs[::step])
        _plain(axes)
    figure.suptitle(_upright(metrics), x=0.01, ha="left", fontsize=8, color=_MUTED)
    _saved(figure, path)


def _upright(metrics: Sequence[Mapping[str, Any]]) -> str:
    """What the upright line is, and why training's own curve may be the worse one."""
    text = kept_text(metrics)
    kept = f"Upright line, the bundle: {text}.\n" if text else ""
    return (
        f"{kept}Train is measured while the weights change, with dropout, augmentation and label "
        "smoothing where the recipe has them."
    )


@_drawn
def confusion_png(
    path: Path, labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = ""
) -> None:
    """Rows are the true classes, columns what the network says; shades are shares of a row."""
    matrix = np.array(confusion, float)
    count = len(labels)
    side = max(3.6, 0.42 * min(count, 40) + 2)
    figure = _figure(side, side)
    axes = figure.add_subplot(1, 1, 1)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 30:
        ticks = range(count)
        axes.set_xticks(ticks, labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        for (row, column), share in np.ndenumerate(shares):
            if number := int(matrix[row, column]):
                colour = "white" if share > 0.5 else _INK
                axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("predicted", color=_MUTED)
    axes.set_ylabel("true", color=_MUTED)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color=_MUTED, wrap=True)
    _plain(axes)
    _saved(figure, path)


@_drawn
def mistakes_png(
    path: Path,
    images: NDArray[np.uint8],
    captions: Sequence[tuple[str, str]],
    title: str = "",
    files: Sequence[str] = (),
) -> None:
    """A gallery of uint8 ``[N, H, W, C]``, each with what it is and what it was taken for.

    ``files`` names them, where they have names.
    """
    rows = -(-len(images) // _COLUMNS)
    names = _file_names(files) if any(files) else [""] * len(images)
    figure = _figure(1.5 * _COLUMNS, (2.1 if any(names) else 1.95) * rows)
    several = zip(images, captions, names, strict=True)
    for place, (image, (truth, said), name) in enumerate(several, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        text = f"{truth}\nas {said}" + (f"\n{name}" if name else "")
        axes.set_title(text, fontsize=7, color=_INK)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color=_MUTED)
    _saved(figure, path)


def require_matplotlib() -> None:
    """Raises ``BackendNotAvailable`` without it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendNotAvailable(
            f"pictures need matplotlib, which {why_not('matplotlib', error)}",
            'pip install "vgg-deploy[report]"',
        ) from error


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Any) -> None:
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)
    for name in ("bottom", "left"):
        axes.spines[name].set_color(_MUTED)
    axes.tick_params(colors=_MUTED, labelsize=8)


def _saved(figure: Any, path: Path) -> None:
    with atomic(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
