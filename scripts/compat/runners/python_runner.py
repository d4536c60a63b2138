"""Run one ONNX file in one Python runtime: ``python_runner.py RUNTIME CASE.json OUT.json``.

Needs numpy and the runtime and nothing else, so that it runs in an environment of any age.
CASE.json names the model and its inputs; OUT.json gets logits per input, or the error.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Any], Any]
Load = Callable[[Path, str], "tuple[Run, str]"]  # file and input name to run and version


def load_ort(path: Path, name: str) -> tuple[Run, str]:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return (lambda x: session.run(["logits"], {name: x})[0]), onnxruntime.__version__


def load_openvino(path: Path, name: str) -> tuple[Run, str]:
    """OpenVINO on the CPU, in float32, without its telemetry."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(str(path), "CPU", hints)
    port = compiled.output("logits")
    return (lambda x: compiled({name: x})[port].copy()), ov.__version__


def load_opencv(path: Path, name: str) -> tuple[Run, str]:
    """OpenCV's dnn module."""
    import cv2

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(str(path))

    def run(x: Any) -> Any:
        net.setInput(x, name)
        return np.asarray(net.forward("logits"))

    return run, cv2.__version__


def load_reference(path: Path, name: str) -> tuple[Run, str]:
    """ONNX's own evaluator in numpy."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(str(path))
    return (lambda x: evaluator.run(["logits"], {name: x})[0]), onnx.__version__


def load_tract(path: Path, name: str) -> tuple[Run, str]:
    """Sonos tract."""
    del name  # one input
    from importlib import metadata

    import tract

    def run(x: Any) -> Any:
        model = tract.onnx().load(str(path))
        wanted = model.output_count() - 1  # it names outputs after nodes; logits come last
        runnable = model.into_model().into_runnable()
        return runnable.run([x])[wanted].to_numpy()

    tract.onnx().load(str(path)).into_model().into_runnable()
    return run, metadata.version("tract")


def load_rtx(path: Path, name: str) -> tuple[Run, str]:
    """Parse and build; an engine runs on a GPU only."""
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flag)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise RuntimeError("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    profile = builder.create_optimization_profile()
    shape = list(network.get_input(0).shape)
    if name == "image":
        channels = shape[3]
        shapes = [(1, 1, 1, channels), (1, 480, 640, channels), (8, 4096, 4096, channels)]
    else:
        shapes = [(1, *shape[1:]), (1, *shape[1:]), (128, *shape[1:])]
    profile.set_shape(name, *shapes)
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("the builder made no engine")

    def run(_x: Any) -> Any:
        raise NotImplementedError("engines run on a GPU")

    return run, trt.__version__


LOADERS: Mapping[str, Load] = {
    "ort": load_ort,
    "openvino": load_openvino,
    "opencv": load_opencv,
    "onnx": load_reference,
    "tract": load_tract,
    "rtx": load_rtx,
}


def run_case(runtime: str, case: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs per input, or what went wrong and where."""
    out: dict[str, Any] = {"version": "", "loads": False, "error": "", "logits": {}}
    start = time.perf_counter()
    try:
        run, out["version"] = LOADERS[runtime](Path(case["model"]), case["input"])
        out["loads"] = True
        if case.get("load_only"):
            return out
        for entry in case["inputs"]:
            array = np.fromfile(entry["file"], entry["dtype"]).reshape(entry["shape"])
            logits = np.asarray(run(array), np.float64)
            out["logits"][entry["name"]] = logits.reshape(len(array), -1).tolist()
    except Exception as error:  # whatever a runtime raises is the result
        text = (str(error).strip() or type(error).__name__).splitlines()
        out["error"] = next((line.strip() for line in text if line.strip()), "")[:300]
        traceback.print_exc()
    out["seconds"] = time.perf_counter() - start
    return out


if __name__ == "__main__":
    _, wanted, given, result = sys.argv
    answer = run_case(wanted, json.loads(Path(given).read_text(encoding="utf-8")))
    Path(result).write_text(json.dumps(answer), encoding="utf-8")
