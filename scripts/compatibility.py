"""Which runtime reads which ONNX file, and how far its answers are from float64.

Makes its own environments in a cache folder (older ONNX Runtimes, OpenCV, tract, TensorRT-RTX,
npm packages, a C program), runs every file in every runtime in a process of its own, and writes
docs/results/compatibility.json and, with ``--page``, the table docs/compatibility.md.

    python -m scripts.compatibility --page               everything; about 10 minutes the first time
    python -m scripts.compatibility --light -o light.json     only runtimes installed anyway
    python -m scripts.compatibility --bundle artifacts/fmnist --runtime OpenVINO -o one.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.compat.browser import run_in_chromium
from scripts.compat.cases import Form, all_forms, colour_bundle, scale_of, trained_bundle
from scripts.compat.environments import (
    RUNTIMES,
    NotHere,
    Runtime,
    capi_program,
    command_for,
)
from scripts.compat.page import PAGE, RESULTS, page
from vgg_deploy.bundle import open_bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.files import write_text

_TIMEOUT = 600.0  # seconds for one file in one runtime


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file in one runtime."""

    runtime: str
    version: str
    form: str
    status: str  # passes, differs, builds, refused or skipped
    reason: str = ""
    max_error: float | None = None  # of one logit, in units of the reference's rms
    top1_agree: int | None = None
    top1_total: int | None = None


def run_form(runtime: Runtime, form: Form, cache: Path) -> Cell:
    """Run a file in a runtime and compare; nothing a runtime does ends the script."""
    cell = Cell(runtime=runtime.name, version="", form=form.name, status="skipped")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        case = _case(form, Path(folder))
        try:
            out = _outputs(runtime, case, Path(folder), cache)
        except NotHere as error:
            return replace(cell, reason=str(error))
        except subprocess.TimeoutExpired:
            return replace(cell, status="refused", reason=f"no answer in {_TIMEOUT:.0f} s")
    return judge(cell, out, form, builds_only=runtime.builds_only)


def judge(cell: Cell, out: dict[str, Any], form: Form, *, builds_only: bool = False) -> Cell:
    """A cell from what a runner wrote."""
    cell = replace(cell, version=str(out.get("version") or ""))
    if not out["loads"] or (out["error"] and not builds_only):
        return replace(cell, status="refused", reason=out["error"])
    if builds_only:
        return replace(cell, status="builds")
    have = {name: np.array(rows, np.float64) for name, rows in out["logits"].items()}
    for name, want in form.want.items():
        if have[name].shape != want.shape or not np.isfinite(have[name]).all():
            return replace(cell, status="differs", reason=f"shape or NaN on {name}")
    error = max(float(np.abs(have[name] - form.want[name]).max()) for name in form.want)
    relative = error / scale_of(form.want)
    agree = [have[name].argmax(axis=1) == form.want[name].argmax(axis=1) for name in form.want]
    return replace(
        cell,
        status="passes" if relative <= form.bound else "differs",
        reason="" if relative <= form.bound else f"error above {form.bound:g}",
        max_error=relative,
        top1_agree=int(np.concatenate(agree).sum()),
        top1_total=sum(len(part) for part in agree),
    )


def main(words: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = _parser()
    options = parser.parse_args(words)
    whole = not (options.bundle or options.runtime or options.light or options.small)
    if options.out is None and not whole:
        parser.error(f"say with -o where to: {RESULTS} is of all runtimes")
    cache = options.cache.expanduser().resolve()
    cache.mkdir(parents=True, exist_ok=True)
    bundle = open_bundle(options.bundle) if options.bundle else trained_bundle(cache / "trained")
    forms = all_forms(bundle, colour_bundle(cache / "colour"), large=not options.small)
    wanted = [r for r in RUNTIMES if not options.runtime or r.name in options.runtime]
    cells = []
    for runtime in (r for r in wanted if r.light or not options.light):
        for form in forms:
            cells.append(run_form(runtime, form, cache))
            print(" ".join(str(value) for value in asdict(cells[-1]).values()), flush=True)
    document = {
        "made_at": now(),
        "environment": asdict(capture()),
        "model": bundle.card.spec.arch,
        "files": [_file(form) for form in forms],
        "images": {name: list(batch.shape) for name, batch in forms[1].inputs.items()},
        "cells": [asdict(cell) for cell in cells],
    }
    write_text(options.out or RESULTS, json.dumps(document, indent=1) + "\n")
    if options.page:
        write_text(options.page, page(document))


def _file(form: Form) -> dict[str, Any]:
    import onnx

    model = onnx.load(form.path, load_external_data=False)
    return {
        "form": form.name,
        "file": form.path.name,
        "sha256": form.artifact.sha256,
        "bytes": form.artifact.size_bytes,
        "opset": model.opset_import[0].version,
        "ir_version": model.ir_version,
        "operators": sorted({node.op_type for node in model.graph.node}),
        "bound": form.bound,
    }


def _case(form: Form, folder: Path) -> dict[str, Any]:
    """Write the inputs as raw bytes; what a runner reads."""
    entries = []
    for number, (name, batch) in enumerate(form.inputs.items()):
        path = folder / f"{number}.bin"
        batch.tofile(path)
        entry = {"name": name, "file": str(path), "dtype": str(batch.dtype)}
        entries.append({**entry, "shape": list(batch.shape)})
    given = {"model": str(form.path), "input": form.artifact.input.name}
    return {**given, "inputs": entries}


def _outputs(runtime: Runtime, case: dict[str, Any], folder: Path, cache: Path) -> dict[str, Any]:
    if runtime.kind == "chromium":
        return run_in_chromium(case, cache, _TIMEOUT)
    if runtime.kind == "capi":
        return _run_capi(capi_program(cache), case, folder)
    command, place = command_for(runtime, cache)
    case = {**case, "load_only": runtime.builds_only}
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
    words = [*command, str(folder / "case.json"), str(folder / "out.json")]
    done = subprocess.run(
        words, cwd=place, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if not (folder / "out.json").exists():  # the runtime took the process with it
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"loads": False, "error": f"the process ended with {done.returncode}: {last}"}
    result: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return result


def _run_capi(program: Path, case: dict[str, Any], folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {"version": "", "loads": False, "error": "", "logits": {}}
    for entry in case["inputs"]:
        shape = [str(size) for size in entry["shape"]]
        words = [str(program), case["model"], case["input"], entry["dtype"], entry["file"],
                 str(folder / "logits.bin"), str(len(shape)), *shape]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        if done.returncode:
            return {**out, "error": (done.stderr.strip() or f"exit code {done.returncode}")[:300]}
        out |= {"version": done.stdout.strip(), "loads": True}
        rows: NDArray[np.float32] = np.fromfile(folder / "logits.bin", np.float32)
        out["logits"][entry["name"]] = rows.reshape(entry["shape"][0], -1).tolist()
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="a trained one; without it one is trained")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/vgg-deploy/compatibility"))
    parser.add_argument("--runtime", action="append", choices=[r.name for r in RUNTIMES])
    parser.add_argument("--light", action="store_true", help="only what is installed anyway")
    parser.add_argument("--small", action="store_true", help="leave out the 12 megapixels")
    parser.add_argument("-o", "--out", type=Path, help=f"of all runtimes: {RESULTS}")
    parser.add_argument("--page", type=Path, nargs="?", const=PAGE, help="also write the table")
    return parser


if __name__ == "__main__":
    main()
