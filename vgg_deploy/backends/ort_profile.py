"""ONNX Runtime's own profile of a file: which operator took how long."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from vgg_deploy.artifact import Precision
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.ort import PROVIDER, session_options
from vgg_deploy.backends.session import only_input, translated

_ENDING = "_kernel_time"


def operator_times(
    path: Path,
    precision: Precision,
    batch: Array,
    runs: int,
    told: Callable[[], object] = lambda: None,
) -> list[list[tuple[str, int]]]:
    """Operator type and nanoseconds in order, for each of ``runs`` runs after a warm one.

    Whole microseconds, as ONNX Runtime records them. ``told`` is called after each run.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder, translated(f"could not profile {path}"):
        options = session_options(precision)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(path), options, providers=[PROVIDER])
        given = only_input(session.get_inputs())
        session.run(None, {given.name: batch})
        for _ in range(runs):
            session.run(None, {given.name: batch})
            told()
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes = [
        (str(event["args"]["op_name"]), int(event["dur"]) * 1000)
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_ENDING)
    ]
    each = len(nodes) // (runs + 1)
    return [nodes[i : i + each] for i in range(each, len(nodes), each)]
