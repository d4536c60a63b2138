"""A deserialized engine on its GPU: contexts, buffers, a stream, captured graphs.

The order of calls is TensorRT's for ``execute_async_v3``: profile, input shape, shape inference, an
address for every tensor, then runs on a stream that is not the default one. A graph is captured
after one plain run, for one shape and one set of addresses ("CUDA Graphs" in the TensorRT developer
guide), so binding another batch captures again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.refit import refit
from vgg_deploy.backends.session import Placed
from vgg_deploy.cuda import Driver
from vgg_deploy.errors import RefusedInput, VggDeployError
from vgg_deploy.trt.failure import build_failure, explained, given, start
from vgg_deploy.trt.flavour import Library
from vgg_deploy.trt.log import Log, logger
from vgg_deploy.trt.match import (
    STRIP_WEIGHTS,
    VERSION_COMPATIBLE,
    YES,
    rebuild_command,
    target_of,
)
from vgg_deploy.trt.profile import Profile, choose


@dataclass
class Slot:
    """One execution context and its buffers: one serves calls, the other what is bound."""

    context: Any
    config: Any = None  # what the context was made with, which it may go on using
    buffers: dict[str, tuple[int, int]] = field(default_factory=dict)  # address and bytes
    shape: tuple[int, ...] = ()
    profile: int | None = None
    graph: int | None = None


@dataclass
class Engine:
    """What a session holds; ``close`` gives all of it back."""

    artifact: Artifact
    root: Path
    library: Library
    driver: Driver
    engine: Any
    log: Log
    stream: int
    profiles: tuple[Profile, ...]
    use_graph: bool
    alive: tuple[Any, ...]  # logger and runtime, which the engine goes on using
    slots: dict[bool, Slot] = field(default_factory=dict)  # by whether it is kept bound

    @property
    def largest(self) -> int:
        """The largest batch that some profile takes."""
        return max(profile.high for profile in self.profiles)

    @property
    def captured(self) -> bool:
        """Whether the bound runs come from a graph."""
        return True in self.slots and self.slots[True].graph is not None

    def place(self, batch: Array, *, keep: bool) -> Placed:
        """Put a batch on the GPU; ``run`` enqueues, ``read`` waits and copies the output.

        ``keep`` takes the context for bound runs, runs once and captures a graph.
        """
        self.log.lines.clear()  # an earlier batch's reasons are not this one's
        with explained(self.log, f"run {self.artifact.path}", self.driver):
            return self._placed(batch, keep)

    def wait(self) -> None:
        """Until the stream is done."""
        self.driver.wait(self.stream)

    def close(self) -> None:
        """Wait, then give everything back; a second call does nothing.

        After an error that CUDA does not recover from each of these fails: all are tried.
        """
        stream, self.stream = self.stream, 0
        if stream == 0:
            return
        with ExitStack() as last_first:
            last_first.callback(self.driver.end_stream, stream)
            last_first.callback(self._forget)
            for slot in self.slots.values():
                for address, _ in slot.buffers.values():
                    last_first.callback(self.driver.free, address)
                if slot.graph is not None:
                    last_first.callback(self.driver.end_graph, slot.graph)
            last_first.callback(self.driver.wait, stream)

    def _forget(self) -> None:
        """Let go of contexts and engine, contexts first."""
        for slot in self.slots.values():
            slot.graph = slot.context = slot.config = None
        self.slots.clear()
        self.engine = None

    def _placed(self, batch: Array, keep: bool) -> Placed:
        slot = self._slot(keep)
        self._shape(slot, batch)
        source, wanted = self.artifact.input.name, self.artifact.output.name
        output = self._output(batch.shape[0])
        given = self._buffer(slot, source, batch.nbytes)
        taken = self._buffer(slot, wanted, output.nbytes)
        for name, address in ((source, given), (wanted, taken)):
            self._require(slot.context.set_tensor_address(name, address), f"place {name}")
        self.driver.upload(given, batch, self.stream)
        self.wait()  # the host array may go after this

        def enqueue() -> None:
            self._require(slot.context.execute_async_v3(self.stream), "enqueue a run")

        def read() -> Array:
            self.driver.download(output, taken, self.stream)
            self.wait()
            copied: Array = output.copy()
            return copied

        if keep and self.use_graph and self._capture(slot, enqueue):
            return Placed(self._launcher(slot), read)
        return Placed(enqueue, read)

    def _output(self, rows: int) -> Array:
        sizes = [int(size) for size in self.artifact.output.shape[1:]]
        output: Array = np.empty((rows, *sizes), np.dtype(self.artifact.output.dtype))
        return output

    def _slot(self, keep: bool) -> Slot:
        if keep not in self.slots:
            context, config = self._context()
            if context is None:
                name = self.library.traits.device_memory  # that of 10.1: 10.0 lacks it
                activations = getattr(self.engine, name, 0)
                raise self._failed("make an execution context", activations)
            self.slots[keep] = Slot(context, config)
        return self.slots[keep]

    def _context(self) -> tuple[Any, Any]:
        """A context, and what it was made with where that matters.

        TensorRT-RTX compiles kernels for a shape when it meets it. All runs wait for these: a
        graph keeps the kernels that it was captured with, and what calls are verified with has to
        be what is timed.
        """
        if not (wanted := self.library.traits.specialisation):
            return self.engine.create_execution_context(), None
        config = given(self.engine.create_runtime_config(), "runtime configuration")
        kinds = self.library.module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = getattr(kinds, wanted)
        return self.engine.create_execution_context(runtime_config=config), config

    def _shape(self, slot: Slot, batch: Array) -> None:
        """Profile and input shape for this batch; what was captured for another goes."""
        self._drop_graph(slot)
        if slot.shape == batch.shape:
            return
        chosen = choose(self.profiles, batch.shape[0])
        if chosen is None:
            known = ", ".join(map(str, self.profiles))
            again = rebuild_command(self.artifact, self.root)
            raise RefusedInput(
                f"batch {batch.shape[0]} is outside the profiles of {self.artifact.path}: {known}",
                f"use a batch inside them, or build with another --batch: {again}",
            )
        context, name = slot.context, self.artifact.input.name
        slot.shape = ()
        if chosen != slot.profile:
            done = context.set_optimization_profile_async(chosen, self.stream)
            self._require(done, f"use profile {self.profiles[chosen]}")
            slot.profile = chosen
        self._require(context.set_input_shape(name, batch.shape), f"take the shape {batch.shape}")
        if unknown := context.infer_shapes():
            raise self._failed(f"infer the shapes of {', '.join(unknown)}")
        slot.shape = batch.shape

    def _buffer(self, slot: Slot, name: str, size: int) -> int:
        """Address of at least ``size`` bytes; kept between batches, replaced only by a larger."""
        address, there = slot.buffers.get(name, (0, 0))
        if there >= size:
            return address
        if there:
            self.wait()
            del slot.buffers[name]
            self.driver.free(address)
        address = self.driver.allocate(size)
        slot.buffers[name] = (address, size)
        return address

    def _capture(self, slot: Slot, enqueue: Callable[[], None]) -> bool:
        """Run once, then capture; False where this engine cannot be captured."""
        enqueue()
        self.wait()
        capturable = getattr(slot.context, "is_stream_capturable", None)  # TensorRT-RTX has it
        if capturable is not None and not capturable(self.stream):
            return False
        slot.graph = self.driver.capture(self.stream, enqueue)
        return True

    def _launcher(self, slot: Slot) -> Callable[[], None]:
        graph = slot.graph

        def launch() -> None:
            if graph is None or slot.graph != graph:
                raise RuntimeError("this run belongs to a batch that is no longer bound")
            self.driver.launch(graph, self.stream)

        return launch

    def _drop_graph(self, slot: Slot) -> None:
        if slot.graph is not None:
            self.wait()
            self.driver.end_graph(slot.graph)
            slot.graph = None

    def _require(self, done: object, doing: str) -> None:
        if not done:
            raise self._failed(doing)

    def _failed(self, doing: str, needs: int = 0) -> VggDeployError:
        doing = f"{doing} with {self.artifact.path}"
        return build_failure(self.log, doing, self.driver, needs=needs)


def open_engine(
    library: Library, driver: Driver, artifact: Artifact, root: Path, use_graph: bool
) -> Engine:
    """Deserialize a plan that was found to fit; one without weights gets them from its ONNX."""
    log, path = Log(), root / artifact.path
    keeper = logger(library.module, log)
    runtime = start(library, "Runtime", keeper, log, driver)
    if artifact.made_by.get(VERSION_COMPATIBLE) == YES:
        runtime.engine_host_code_allowed = True  # its lean runtime is part of the plan
    again = f"build it again: {rebuild_command(artifact, root)}"
    with explained(log, f"open {path}", driver, again):
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise build_failure(log, f"open {path}", driver, again)
        if artifact.made_by.get(STRIP_WEIGHTS) == YES:
            refit(library, keeper, engine, artifact, root, log, driver)
    return Engine(
        artifact=artifact,
        root=root,
        library=library,
        driver=driver,
        engine=engine,
        log=log,
        profiles=tuple(Profile(*sizes) for sizes in target_of(artifact).batches),
        use_graph=use_graph,
        alive=(keeper, runtime),
        stream=driver.new_stream(),  # last: nothing that fails leaves one behind
    )
