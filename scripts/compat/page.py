"""docs/compatibility.md from docs/results/compatibility.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("docs/results/compatibility.json")
PAGE = Path("docs/compatibility.md")

_TOP = """# Which runtime reads which file

Made by `python -m scripts.compatibility --page` from [its results](results/compatibility.json); do
not edit. Every file went through every runtime in a process of its own. A number is the largest
error of a logit against float64 (preprocessing included), in units of the logits' root mean square;
in brackets the images whose first class agrees. ✓: within the bound below. ✗: reads the file and is
wrong. "builds": an engine was built; running it takes a GPU. –: the file is refused or the runtime
could not be had; the reasons are below.
"""

_BOTTOM = """## Reading it

- `embedded` is `vgg-deploy export --format onnx --embedded`, portable resize: see
  [embedded-onnx.md](embedded-onnx.md). With a centre crop more operators are in the graph (`Min`,
  `Floor`, `Round`), so it is a column of its own.
- `embedded fp16` and `embedded int8` are what `vgg-deploy embed --precision` puts into apps.
- int8 is compared with float64 like the others, so its error is that of quantization; what
  counts is that the runtimes agree with each other.
- OpenVINO is asked for float32; its default on CPUs with bf16 is bf16.
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [_TOP, _table(document), _files(document), _images(document), _reasons(document)]
    return "\n".join([*(part for part in parts if part), _BOTTOM])


def passing(document: Mapping[str, Any], form: str) -> list[str]:
    """Names of the runtimes that pass a form, in order."""
    cells = document["cells"]
    return [c["runtime"] for c in cells if c["form"] == form and c["status"] == "passes"]


def _table(document: Mapping[str, Any]) -> str:
    forms = [file["form"] for file in document["files"]]
    rows = [["runtime", "version", *forms]]
    cells = {(c["runtime"], c["form"]): c for c in document["cells"]}
    for runtime in dict.fromkeys(c["runtime"] for c in document["cells"]):
        own = [cells[runtime, form] for form in forms]
        version = next((c["version"] for c in own if c["version"]), "")
        rows.append([runtime, version.split("-")[0], *(_cell(c) for c in own)])
    return _markdown(rows)


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["status"] == "builds":
        return "builds"
    if cell["max_error"] is None:
        return "–"
    sign = "✓" if cell["status"] == "passes" else "✗"
    return f"{sign} {cell['max_error']:.1e} ({cell['top1_agree']}/{cell['top1_total']})"


def _files(document: Mapping[str, Any]) -> str:
    rows = [["file", "opset", "IR", "MB", "bound"]]
    for file in document["files"]:
        megabytes = f"{file['bytes'] / 1e6:.2f}"
        rows.append([file["form"], str(file["opset"]), str(file["ir_version"]), megabytes,
                     f"{file['bound']:g}"])  # fmt: skip
    return "## Files\n\n" + _markdown(rows)


def _images(document: Mapping[str, Any]) -> str:
    names = [f"{name} ({shape[1]}×{shape[2]})" for name, shape in document["images"].items()]
    environment = document["environment"]
    return (
        f"Images, height × width: {', '.join(names)}. Measured on {document['made_at'][:10]}, "
        f"{environment['system']}, {environment['cpu']}, Python {environment['python']}.\n"
    )


def _reasons(document: Mapping[str, Any]) -> str:
    told = [c for c in document["cells"] if c["reason"]]
    if not told:
        return ""
    lines = [f"- {c['runtime']}, {c['form']}: {c['status']}, {c['reason']}" for c in told]
    return "## Reasons\n\n" + "\n".join(lines) + "\n"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines) + "\n"
