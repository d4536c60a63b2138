"""Drawing with matplotlib into SVG that takes its colours from the page.

Figures are drawn in stand-in colours, which become CSS variables in the SVG: one drawing serves
light and dark mode, screen and print. Text stays text. The same data gives the same bytes.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.libraries import why_not
from vgg_deploy.report.quantities import significant

# Stand-ins: (colour matplotlib draws with, CSS variable, fallback outside the page).
INK, MUTED, GRID = "#010101", "#020202", "#030303"
GOOD, BAD, WARN, PAPER = "#040404", "#050505", "#060606", "#070707"
SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006", "#0a0007", "#0a0008")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_VARIABLES = {
    INK: ("--ink", "#1d2226"),
    MUTED: ("--muted", "#59636b"),
    GRID: ("--rule", "#d9dcdb"),
    GOOD: ("--data", "#2f6690"),
    BAD: ("--bad", "#a8321f"),
    WARN: ("--warn", "#80590a"),
    PAPER: ("--paper", "#ffffff"),
    **{c: (f"--series-{i + 1}", "#2f6690") for i, c in enumerate(SERIES)},
}
_POINTS_PER_INCH = 72  # one unit of the drawing is one CSS pixel at full size
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vgg-deploy",
    "text.parse_math": False,  # a file name may hold a dollar sign
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One finished drawing: ``svg`` goes into a page as it is."""

    name: str  # a word for ids
    title: str
    caption: str  # how to read it
    description: str  # what it shows, for those who cannot see it
    svg: str


class Canvas:
    """A figure of a fixed size in pixels, with axes placed from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        figure = _matplotlib_figure()
        self.width, self.height = width, height
        self.figure: Any = figure(
            figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH
        )
        self.figure.patch.set_alpha(0)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Bare axes: no frame, vertical hairlines, muted numbers below."""
        bottom = self.height - top - height
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )
        axes.patch.set_alpha(0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(axis="both", length=0, labelcolor=MUTED, labelsize=12, pad=7)
        axes.tick_params(axis="both", which="minor", length=0, labelbottom=False)
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="x", color=GRID, linewidth=1)
        return axes

    def text(self, x: float, y: float, text: str, *, color: str = MUTED, **options: Any) -> None:
        """Text at pixels from the top left corner, standing on its baseline."""
        place = (x / self.width, 1 - y / self.height)
        self.figure.text(*place, text, color=color, va="baseline", **options)

    def svg(self, name: str, title: str, description: str) -> str:
        """The drawing as an ``<svg>`` element without anything outside itself."""
        buffer = StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
        return _inlined(buffer.getvalue(), name, title, description)


class drawing:  # noqa: N801 - used like a function, in a with statement
    """Within the block matplotlib draws our way; its global settings are put back after it."""

    def __enter__(self) -> None:
        matplotlib = _matplotlib()
        self._settings = matplotlib.rc_context(_RC)
        self._settings.__enter__()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        # The reader's browser chooses the font; matplotlib's own need not have every glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(None, None, None)
        self._settings.__exit__(*error)


def power_label(value: float, _position: object = None) -> str:
    """Tick label of a log axis: ``10⁻⁷``."""
    text = significant(value, 1)
    return text.removeprefix("1×") if "×10" in text else f"{value:,g}"


def wide(values: Iterable[float], ratio: float = 30) -> bool:
    """Whether values differ so much that a linear scale would hide the small ones."""
    positive = [v for v in values if v > 0]
    return bool(positive) and max(positive) > ratio * min(positive)


def log_axis(axes: Any, which: Literal["x", "y"], low: float, high: float) -> None:
    """Make an axis logarithmic from ``low`` to ``high``, labelled at powers of ten."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_formatter(power_label)
    axis.set_minor_formatter(lambda _value, _position: "")


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Positions as near as possible to ``places`` that are at least ``gap`` apart."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for index in order:
        centre, members = places[index], [index]
        while groups and centre - groups[-1][0] < gap * (len(members) + len(groups[-1][1])) / 2:
            before, earlier = groups.pop()
            total = len(earlier) + len(members)
            centre = (before * len(earlier) + centre * len(members)) / total
            members = earlier + members
        groups.append((centre, members))
    result = [0.0] * len(places)
    for centre, members in groups:
        for offset, index in enumerate(members):
            result[index] = centre + gap * (offset - (len(members) - 1) / 2)
    return result


def text_width(text: str, font_size: float = 12) -> float:
    """About how many pixels wide a text is in a common sans serif font."""
    return 0.58 * font_size * len(text)


def _inlined(svg: str, name: str, title: str, description: str) -> str:
    body = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="([^"]+)"', body)
    inner = body[body.index(">") + 1 : body.rindex("</svg>")]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<!--.*?-->", "", inner, flags=re.DOTALL)
    inner = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', inner)
    inner = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', inner)
    inner = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", inner)
    for stand_in, (variable, fallback) in _VARIABLES.items():
        inner = inner.replace(stand_in, f"var({variable}, {fallback})")
    inner = re.sub(r"\n\s*\n+", "\n", inner)
    size = view.group(1) if view else "0 0 100 100"
    return (
        f'<svg class="plot" role="img" viewBox="{size}" xmlns="http://www.w3.org/2000/svg" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{inner}</svg>'
    )


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise BackendNotAvailable(
            f"the report's plots need matplotlib, which {why_not('matplotlib', error)}",
            'pip install "vgg-deploy[report]"',
        ) from error
    return matplotlib


def _matplotlib_figure() -> Any:
    _matplotlib()
    from matplotlib.figure import Figure

    return Figure
