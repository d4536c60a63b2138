"""A TensorRT without NVIDIA's libraries, with exactly the names of a real version.

The names are in ``api/``, where ``scripts/trt_api.py`` puts what the real bindings have:
a class, method or enum member that a version does not have is an AttributeError here, too. What an
engine computes is the projection of ``vgg_deploy.backends.fake``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import onnx
from google.protobuf.message import DecodeError

from tests.trt.fake_cuda import FakeDriver
from tests.trt.fake_runtime import (
    OUT_OF_MEMORY,
    FakeParserRefitter,
    FakeRefitter,
    FakeRuntime,
    say,
)
from vgg_deploy.artifact import Flavour
from vgg_deploy.trt.flavour import Library, row_for

LISTS = Path(__file__).parent / "api"
VERSIONS = {
    "8.6": "8.6.0",
    "10": "10.14.1.48.post1",
    "11": "11.4.0.106",
    "rtx": "rtx-1.7.1.116",
}
Fault = Literal[
    "builder", "network", "parser", "config", "new profile", "add profile",  # while building
    "capability", "build", "memory", "cache",
    "runtime", "runtime raises", "plan", "plan raises", "plan memory",  # while opening
    "inspector", "inspector raises",  # while listing the layers
    "refitter", "refit file", "refit", "missing weights",  # while opening a plan without weights
    "context", "context memory", "runtime config",  # while running
    "profile", "shape", "infer", "infer raises",
    "address", "run", "capture",
]  # fmt: skip


@dataclass
class Fake:
    """One library with the machine it runs on, what was asked of it and how it breaks."""

    name: str
    driver: FakeDriver
    fault: Fault | None = None
    config: Any = None  # of the last build, with the attributes that were set
    flags: set[str] = field(default_factory=set)
    settings: dict[str, Any] = field(default_factory=dict)
    profiles: list[list[tuple[int, ...]]] = field(default_factory=list)
    cached: list[bytes] = field(default_factory=list)  # timing caches that were given
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # input shapes that were set
    used_profiles: list[int] = field(default_factory=list)
    contexts: list[dict[str, Any]] = field(default_factory=list)  # with what each was made
    in_use: set[int] = field(default_factory=set)  # profiles that some context has
    refitted: list[str] = field(default_factory=list)
    verbose: list[str] = field(default_factory=list)  # what a build says of its doings
    capturable: bool = True
    inspected: str = ""  # what the engine inspector says, where it is not a layer

    @property
    def listed(self) -> Any:
        """What the real bindings have."""
        return json.loads((LISTS / f"{VERSIONS[self.name]}.json").read_text(encoding="utf-8"))

    def refuses(self, fault: Fault, logger: Any) -> bool:
        """Whether it is to break there; says so like TensorRT, with its authors' own places."""
        if self.fault == fault:
            say(logger, "ERROR", f"planned: {fault} In refuse at /_src/planned.cpp:1")
        return self.fault == fault

    def library(self) -> Library:
        """As ``flavour.load`` would give it."""
        listed = self.listed
        flavour: Flavour = "tensorrt_rtx" if self.name == "rtx" else "tensorrt"
        module = _module(self, listed)
        return Library(module, listed["version"], row_for(flavour, listed["version"]))


NULL = "pybind11::init(): factory function returned nullptr"  # as the bindings say it


class Guarded:
    """An object of which only those attributes can be read or set that the real class has."""

    def __init__(self, kind: str, names: Sequence[str], behind: Any) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_names", frozenset(names))
        object.__setattr__(self, "_behind", behind)

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"this TensorRT's {self._kind} has no {name}")
        return getattr(self._behind, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._names:
            raise AttributeError(f"this TensorRT's {self._kind} has no {name}")
        setattr(self._behind, name, value)


def _module(fake: Fake, listed: Any) -> Any:
    classes: dict[str, list[str]] = listed["classes"]
    module = SimpleNamespace(__version__=listed["version"])
    for name, members in listed["enums"].items():
        setattr(module, name, IntEnum(name, members))

    def guarded(kind: str, behind: Any) -> Guarded:
        return Guarded(kind, classes[kind], behind)

    fake_objects = _Objects(fake, module, guarded)
    for name in ("ILogger", "IProgressMonitor"):
        if name in classes:
            setattr(module, name, _base(name, classes[name]))
    for name in ("Builder", "OnnxParser", "Runtime", "Refitter", "OnnxParserRefitter"):
        if name in classes:
            setattr(module, name, getattr(fake_objects, name.lower()))
    return module


def _base(kind: str, names: Sequence[str]) -> type:
    """A class to derive from; a method that the real one would never call is an error."""

    def check(cls: type) -> None:
        unknown = {n for n in vars(cls) if not n.startswith("_")} - set(names)
        assert not unknown, f"{kind} has no {unknown}"

    return type(kind, (), {"__init_subclass__": classmethod(check)})


class _Objects:
    """The behaviour behind the guarded names."""

    def __init__(self, fake: Fake, module: Any, guarded: Any) -> None:
        self.fake, self.module, self.guarded = fake, module, guarded

    def builder(self, logger: Any) -> Any:
        if self.fake.fault == "builder":
            say(logger, "WARNING", "CUDA initialization failure with error: 35")
            raise TypeError(NULL)
        return self.guarded("Builder", _Builder(self, logger))

    def onnxparser(self, network: Any, logger: Any) -> Any:
        if self.fake.refuses("parser", logger):
            raise TypeError(NULL)
        return self.guarded("OnnxParser", _Parser(self, network))

    def runtime(self, logger: Any) -> Any:
        if self.fake.refuses("runtime", logger):
            raise TypeError(NULL)
        if self.fake.refuses("runtime raises", logger):
            raise RuntimeError("the runtime is not for this machine")
        return self.guarded("Runtime", FakeRuntime(self, logger))

    def refitter(self, _engine: Any, logger: Any) -> Any:
        if self.fake.refuses("refitter", logger):
            raise TypeError(NULL)
        return self.guarded("Refitter", FakeRefitter(self.fake, logger))

    def onnxparserrefitter(self, _refitter: Any, _logger: Any) -> Any:
        return self.guarded("OnnxParserRefitter", FakeParserRefitter(self))


class _Builder:
    def __init__(self, objects: _Objects, logger: Any) -> None:
        self.objects, self.logger, self.fake = objects, logger, objects.fake

    def create_network(self, flags: int) -> Any:
        if self.fake.refuses("network", self.logger):
            return None
        kind = self.objects.module.NetworkDefinitionCreationFlag
        self.fake.settings["network"] = [m.name for m in kind if flags >> int(m) & 1]
        return self.objects.guarded("INetworkDefinition", SimpleNamespace())

    def create_builder_config(self) -> Any:
        if self.fake.refuses("config", self.logger):
            return None
        self.fake.flags = {"TF32"}  # on by default everywhere
        self.fake.config = config = _Config(self)
        return self.objects.guarded("IBuilderConfig", config)

    def create_optimization_profile(self) -> Any:
        if self.fake.refuses("new profile", self.logger):
            return None
        shapes: list[tuple[int, ...]] = []
        kept = SimpleNamespace(set_shape=lambda _name, *sizes: shapes.extend(sizes), shapes=shapes)
        return self.objects.guarded("IOptimizationProfile", kept)

    def build_serialized_network(self, _network: Any, config: Any) -> bytes | None:
        if not self.fake.profiles:
            say(self.logger, "ERROR", "Network has dynamic inputs, but no optimization profile")
            return None
        for line in self.fake.verbose:
            say(self.logger, "VERBOSE", line)
        if not self._told(getattr(config._behind, "progress_monitor", None)):
            return None
        if self.fake.fault in ("build", "memory"):
            planned = {"build": "planned: no kernel", "memory": OUT_OF_MEMORY}
            say(self.logger, "ERROR", planned[self.fake.fault])
            return None
        if cache := config._behind.cache:
            cache.content += b"+timed"
        header = {"version": self.objects.module.__version__, "flags": sorted(self.fake.flags)}
        return b"fake plan " + json.dumps(header).encode()

    def _told(self, monitor: Any) -> bool:
        if monitor is None:
            return True
        monitor.phase_start("Building engine", None, 2)
        on = monitor.step_complete("Building engine", 0)
        monitor.phase_start("Timing tactics", "Building engine", 3)
        on = on and monitor.step_complete("Timing tactics", 0)
        monitor.phase_finish("Timing tactics")
        monitor.phase_finish("Building engine")
        return bool(on)


@dataclass
class _Cache:
    content: bytes

    def serialize(self) -> bytes:
        return self.content

    def combine(self, other: Any, _ignore: bool) -> bool:
        self.content += other._behind.content
        return True


class _Config:
    cache: _Cache | None = None

    def __init__(self, builder: _Builder) -> None:
        self.builder, self.fake = builder, builder.fake

    def set_flag(self, flag: Any) -> None:
        self.fake.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.fake.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.fake.settings[pool.name] = size

    def set_preview_feature(self, feature: Any, on: bool) -> None:
        self.fake.settings[feature.name] = on

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        assert index < self.num_compute_capabilities  # type: ignore[attr-defined]
        self.fake.settings["compute_capability"] = capability.name
        return not self.fake.refuses("capability", self.builder.logger)

    def add_optimization_profile(self, profile: Any) -> int:
        if self.fake.refuses("add profile", self.builder.logger):
            return -1
        self.fake.profiles.append(profile._behind.shapes)
        return len(self.fake.profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        self.fake.cached.append(content)
        if self.fake.fault == "cache" and content:
            return None
        return self.builder.objects.guarded("ITimingCache", _Cache(content))

    def set_timing_cache(self, cache: Any, _ignore_mismatch: bool) -> bool:
        self.cache = cache._behind
        return True

    def get_timing_cache(self) -> Any:
        return self.builder.objects.guarded("ITimingCache", self.cache)


class _Parser:
    num_errors = 0

    def __init__(self, objects: _Objects, network: Any) -> None:
        self.objects, self.network = objects, network

    def parse(self, content: bytes) -> bool:
        try:
            graph = onnx.load_from_string(content).graph
        except DecodeError:
            self.bad, self.num_errors = [-1], 1
            return False
        stored = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
        refused = stored if self.objects.fake.name == "8.6" else set()
        self.bad = [
            i
            for i, node in enumerate(graph.node)
            if node.domain or node.op_type == "Det" or node.input[0] in refused
        ]
        self.num_errors = len(self.bad)
        return not self.bad

    def get_error(self, index: int) -> Any:
        at = self.bad[index]
        said = "No importer registered for op: Det" if at >= 0 else "Failed to parse the ONNX model"
        error = SimpleNamespace(node=lambda: at, desc=lambda: said)
        return self.objects.guarded("ParserError", error)
