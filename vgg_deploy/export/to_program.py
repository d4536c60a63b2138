"""``torch.export`` programs (``.export.pt2``) and AOTInductor packages (``.aoti.pt2``)."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.compiler import compiler, compiler_version, for_inductor, sought
from vgg_deploy.environment import vector_flags, versions
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.export.guard import quiet
from vgg_deploy.export.source import ExportOptions, Source
from vgg_deploy.inductor import LOGGERS, compile_errors, compile_folder

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_AOTI_KEPT = (".so", ".json")  # the generated C++ is left out: it holds paths of this machine


def made_by(options: ExportOptions) -> dict[str, str]:
    """Versions and options that shape a program."""
    return versions("vgg-deploy", "torch") | {"max_batch": str(options.max_batch)}


def write(source: Source, path: Path) -> None:
    """Save the exported program, batch 1 to ``max_batch``, with card and labels inside."""
    import torch

    torch.export.save(_program(source), path, extra_files=source.texts())


def aoti_made_by(options: ExportOptions) -> dict[str, str]:
    """Versions and options that shape a package: this processor and compiler included."""
    import torch

    path = compiler() or "none"
    made = made_by(options) | {
        "freezing": "true",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "compiler": f"{Path(path).name} {compiler_version(path)}",
    }
    flags = " ".join(vector_flags())
    return made | {"cpu_flags": flags} if flags else made


def aoti_missing() -> BackendNotAvailable | None:
    """None where a package can be made, else the error that says why not."""
    if compiler():
        return None
    return BackendNotAvailable(
        f"AOTInductor needs a C++ compiler: {sought()} was found",
        "install one, for example apt-get install g++, or point $CXX to yours, without options",
    )


def write_aoti(source: Source, path: Path) -> None:
    """Compile for this processor and package it, batch 1 to ``max_batch``, with card and labels.

    Gradients are off around the compilation: otherwise inductor ignores ``freezing`` without a
    word and lays out every weight anew in each run. Its files lie beside ``path`` while it works,
    where the compiler can be told that path, and are gone afterwards.
    """
    import torch
    from torch._inductor.utils import fresh_cache
    from torch.export.pt2_archive._package import package_pt2

    program = _program(source)
    args, kwargs = program.example_inputs
    module = program.module(check_guards=False)
    with (
        quiet(*LOGGERS),
        compile_folder(path.parent) as scratch,
        fresh_cache(dir=str(scratch)),
        torch.no_grad(),
        compile_errors("AOTInductor"),
    ):
        made = torch._inductor.aot_compile(module, args, kwargs, options=_options())
        if not isinstance(made, list):
            raise TypeError(f"AOTInductor made a {type(made).__name__} instead of files")
        kept = [Path(str(file)) for file in made if str(file).endswith(_AOTI_KEPT)]
        for library in kept:
            _blank(library, scratch, Path(torch.__file__).parents[1])
        package_pt2(str(path), aoti_files=[str(file) for file in kept], extra_files=source.texts())


def _options() -> dict[str, object]:
    """Inductor's configuration, without names that this torch does not know."""
    from torch._inductor import config

    wanted = {
        "aot_inductor.package": True,
        "aot_inductor.enable_line_tables": False,
        "aot_inductor.precompile_headers": False,  # slower for a single model
        "freezing": True,
    } | for_inductor()
    known = config.get_config_copy()
    return {name: value for name, value in wanted.items() if name in known}


def _blank(library: Path, *folders: Path) -> None:
    """Overwrite this machine's paths (``__FILE__`` in torch's checks) with slashes, in place."""
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for folder in folders:
            wanted = os.fsencode(folder)
            at = content.find(wanted)
            while at >= 0:
                content[at : at + len(wanted)] = b"/" * len(wanted)
                at = content.find(wanted, at)


def _program(source: Source) -> ExportedProgram:
    import torch

    batch = torch.export.Dim("batch", min=1, max=source.options.max_batch)
    with torch.no_grad():
        program = torch.export.export(
            source.model(), (source.example(),), dynamic_shapes=({0: batch},)
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # source paths of this machine
    return program
