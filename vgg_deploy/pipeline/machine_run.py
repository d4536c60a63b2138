"""One step of a check of a machine in a process of its own, and what can be read of its answer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from vgg_deploy.pipeline.machine_steps import Done, Step
from vgg_deploy.process import NOT_HERE, module_command, run_group

ROOT = Path(__file__).resolve().parent.parent.parent  # what PYTHONPATH needs
SAMPLES = 2000  # of a cell that a report keeps; p99 needs 662
_COMMANDS = ("doctor", "export", "build")  # of vgg-deploy; the others are the child's
_CHILD = "vgg_deploy.pipeline.machine_child"
_MAIN = (
    "import sys; from vgg_deploy.process import end_with_parent; end_with_parent(); "
    "from vgg_deploy.cli import main; sys.exit(main(sys.argv[1:]))"
)


def run(step: Step, limit: float) -> Done:
    """One step in a process of its own; never raises for what happens there.

    What it had answered before it was ended, or ended itself, is kept.
    """
    own = (
        [step.python, "-c", NOT_HERE + _MAIN]
        if step.kind in _COMMANDS
        else module_command(_CHILD, step.kind, python=step.python)
    )
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    start = monotonic()
    try:
        ended = run_group(
            [*own, *step.words],
            limit,
            env=os.environ | {"PYTHONPATH": path} | environment_for(step),
        )
    except subprocess.TimeoutExpired as error:
        answer = joined(list(answers(_text(error.output))))
        last = [line.strip() for line in _text(error.stderr).splitlines() if line.strip()][-1:]
        said = "; ".join([f"ended after {limit:.4g} s", *(f"last: {line}" for line in last)])
        return Done(step=step, code=-1, seconds=round(limit, 2), said=said, answer=answer)
    except OSError as error:
        return Done(step=step, code=-1, seconds=0.0, said=f"{step.python}: {error.strerror}")
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line] or lines[-1:]
    return Done(
        step=step,
        code=ended.returncode,
        seconds=round(monotonic() - start, 2),
        said="".join(errors[:1]),
        answer=joined(list(answers(ended.stdout))),
    )


def environment_for(step: Step) -> dict[str, str]:
    """ONNX Runtime's TensorRT provider has no other way to leave TF32 off."""
    return {"NVIDIA_TF32_OVERRIDE": "0"} if step.backend == "ort-trt" else {}


def answers(text: str) -> Iterator[Any]:
    """The JSON objects of a text that begin a line; libraries may print between them."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at] == "{":
            try:
                found, at = decoder.raw_decode(text, at)
            except ValueError:  # cut off, or no JSON at all
                pass
            else:
                yield found
        end = text.find("\n", at)
        at = len(text) if end < 0 else end + 1


def joined(parts: list[Any]) -> Any:
    """One answer of all parts: the first, with the rows of all; None without any."""
    if not parts:
        return None
    if all("rows" in part for part in parts):
        rows = [_thinned(row) for part in parts for row in part["rows"]]
        return {**parts[0], "rows": rows}
    return parts[-1]


def _thinned(row: Any) -> Any:
    """A timing with evenly spaced samples, so that a whole check fits into a few megabytes."""
    if not isinstance(row, dict):
        return row
    return {
        name: value[:: -(-len(value) // SAMPLES)] if name.endswith("_ns")
        and isinstance(value, list) and len(value) > SAMPLES else value
        for name, value in row.items()
    }  # fmt: skip


def _text(output: bytes | str | None) -> str:
    """What was read by then: bytes, even where text was asked for."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
