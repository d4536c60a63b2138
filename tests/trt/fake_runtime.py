"""The half of the fake TensorRT that opens and runs plans; ``fake_tensorrt`` is the other."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from vgg_deploy.backends.fake import project, weights_for

OUT_OF_MEMORY = (
    "Requested amount of GPU memory (12884901888 bytes) could not be allocated. There may not be "
    "enough free memory for allocation to succeed."
)


def say(logger: Any, severity: str, text: str) -> None:
    """One line to the logger."""
    logger.log(SimpleNamespace(name=severity), text)


class FakeRuntime:
    engine_host_code_allowed = False

    def __init__(self, objects: Any, logger: Any) -> None:
        self.objects, self.logger = objects, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        fake = self.objects.fake
        if fake.refuses("plan raises", self.logger):
            raise RuntimeError("the plan raises")
        if fake.refuses("plan", self.logger):
            return None
        if fake.fault == "plan memory":
            say(self.logger, "ERROR", OUT_OF_MEMORY)
            return None
        if not plan.startswith(b"fake plan "):
            say(self.logger, "ERROR", "Serialization assertion magicTag failed")
            return None
        if b"VERSION_COMPATIBLE" in plan and not self.engine_host_code_allowed:
            say(self.logger, "ERROR", "The plan has host code, which is not allowed")
            return None
        engine = _Engine(self.objects, self.logger)
        return self.objects.guarded("ICudaEngine", engine)


class _Engine:
    device_memory_size = device_memory_size_v2 = 3 << 30

    def __init__(self, objects: Any, logger: Any) -> None:
        self.objects, self.logger = objects, logger

    def create_runtime_config(self) -> Any:
        if self.objects.fake.refuses("runtime config", self.logger):
            return None
        return self.objects.guarded("IRuntimeConfig", SimpleNamespace())

    def create_execution_context(self, *, runtime_config: Any = None) -> Any:
        if self.objects.fake.fault == "context memory":
            say(self.logger, "ERROR", OUT_OF_MEMORY)
        if self.objects.fake.fault in ("context", "context memory"):
            return None
        asked = getattr(runtime_config, "_behind", None)
        self.objects.fake.contexts.append(vars(asked) if asked else {})
        context = _Context(self.objects.fake, self.logger)
        return self.objects.guarded("IExecutionContext", context)

    def create_engine_inspector(self) -> Any:
        if self.objects.fake.refuses("inspector", self.logger):
            return None
        if self.objects.fake.fault == "inspector raises":
            raise TypeError("incompatible function arguments")  # of a binding
        key = "Format/Datatype" if self.objects.fake.name in ("8.6", "10") else "Datatype"
        kind = "Half" if self.objects.fake.name != "8.6" else "Row major linear FP32"
        tensor = {"Name": "x", "Dimensions": [1], key: kind}
        layer = {
            "Name": "conv",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
            "TacticName": "sm90_xmma_fprop",
            "Metadata": "[ONNX Layer: node_conv2d]\x1e[ONNX Layer: node_relu]",
        }
        text = self.objects.fake.inspected or json.dumps({"Layers": [layer]})
        if self.objects.fake.name == "8.6":
            text = text.replace("\\u001e", "\x1e")  # which no JSON may hold as it is
        told = SimpleNamespace(get_engine_information=lambda _: text)
        return self.objects.guarded("EngineInspector", told)


class _Context:
    def __init__(self, fake: Any, logger: Any) -> None:
        self.fake, self.logger = fake, logger
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def set_optimization_profile_async(self, index: int, _stream: int) -> bool:
        if self.fake.refuses("profile", self.logger):
            return False
        if self.fake.name == "8.6" and not self.fake.settings.get("PROFILE_SHARING_0806"):
            if index in self.fake.in_use:
                return False  # "Profile 0 has been chosen by another IExecutionContext"
            self.fake.in_use.add(index)
        self.fake.used_profiles.append(index)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "input"
        assert self.fake.used_profiles, "a shape before a profile"
        self.shape = shape
        self.runs = 0
        self.fake.shapes.append(shape)
        return not self.fake.refuses("shape", self.logger)

    def infer_shapes(self) -> list[str]:
        if self.fake.refuses("infer raises", self.logger):
            raise RuntimeError("shape inference failed")  # as the bindings document
        return ["input", "mask"] if self.fake.refuses("infer", self.logger) else []

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.fake.driver.blocks
        self.addresses[name] = address
        return not self.fake.refuses("address", self.logger)

    def is_stream_capturable(self, _stream: int) -> bool:
        return bool(self.fake.capturable)

    def execute_async_v3(self, stream: int) -> bool:
        driver = self.fake.driver
        if self.fake.refuses("run", self.logger):
            return False
        if driver.capturing is not None:
            assert self.runs, "a graph was captured before the first run"
            if self.fake.refuses("capture", self.logger):
                return False
        self.runs += 1
        shape, addresses = self.shape, dict(self.addresses)  # as a graph would keep them

        def run() -> None:
            size = int(np.prod(shape)) * 4
            batch = driver.blocks[addresses["input"]][:size].view(np.float32).reshape(shape)
            logits = project(batch, weights_for(batch, 10)).astype(np.float32)
            driver.blocks[addresses["logits"]][: logits.nbytes] = logits.reshape(-1).view(np.uint8)

        driver.enqueue(stream, run)
        return True


class FakeRefitter:
    """Has the weights as soon as a parser gave them, unless it is to break."""

    def __init__(self, fake: Any, logger: Any) -> None:
        self.fake, self.logger = fake, logger

    def refit_cuda_engine(self) -> bool:
        refused = self.fake.refuses("refit", self.logger)
        return not refused and not self.get_missing_weights()

    def get_missing_weights(self) -> list[str]:
        missing = [f"conv{i}.weight" for i in range(5)]
        return missing if self.fake.fault == "missing weights" else []


class FakeParserRefitter:
    """Its reasons are its own: none of them is logged."""

    num_errors = 0

    def __init__(self, objects: Any) -> None:
        self.objects, self.fake = objects, objects.fake

    def refit_from_file(self, path: str) -> bool:
        self.fake.refitted.append(path)
        self.num_errors = int(self.fake.fault == "refit file")
        return not self.num_errors

    def get_error(self, index: int) -> Any:
        assert index < self.num_errors
        error = SimpleNamespace(desc=lambda: "planned: refit file")
        return self.objects.guarded("ParserError", error)
