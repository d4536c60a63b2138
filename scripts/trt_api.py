"""List the Python API of a TensorRT: the names, enum members and methods that vgg-deploy may call.

The committed lists in tests/trt/api/ are made by this script from the real bindings, and the tests
drive our code over stand-ins that have exactly those names. So a name that a version lacks fails a
test on a machine that has neither TensorRT nor a GPU.

    python scripts/trt_api.py list tensorrt              the TensorRT that this Python imports
    python scripts/trt_api.py fetch 11.4.0.106           bindings from the package index
    python scripts/trt_api.py check 10.14.1.48.post1     fetch, and compare with the committed list

``fetch`` puts empty stand-ins beside the bindings, in place of TensorRT's libraries: names can be
read, nothing can be built. It needs a C compiler, nm and readelf. TensorRT 8.6 is one wheel of
819 MB for Python 3.10, so its list is made once, by ``list`` under that Python.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LISTS = Path(__file__).parent.parent / "tests" / "trt" / "api"
CLASSES = (
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "Refitter",
    "Runtime",
)
ENUMS = (
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "HardwareCompatibilityLevel",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "PreviewFeature",
    "ProfilingVerbosity",
)
_FOREIGN = re.compile(r"infer|nvonnx|parser|plugin|TRT|refit|runtime|builder|logger", re.IGNORECASE)
_STANDARD = re.compile(
    r"@|^_Z(N[KS]?St|S|T[IVS]S|Ti|Sa)|^_ZN?K?9__gnu|^__|^Py|^_Py|^_ITM|^_Z(n|d)[wal]"
)


def main() -> None:
    """List, fetch or check, as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("list", "fetch", "check"))
    parser.add_argument("what", help="a module for list, a version for fetch and check")
    given = parser.parse_args()
    if given.action == "list":
        print(as_text(listing(given.what)))
        return
    text = fetched(given.what)
    if given.action == "fetch":
        print(text)
        return
    if text != committed(given.what):
        raise SystemExit(f"tests/trt/api does not hold what the bindings of {given.what} have")
    print(f"{given.what}: the committed list is what its bindings have")


def committed(version: str) -> str:
    """The list in the repository for a version."""
    return (LISTS / f"{version}.json").read_text(encoding="utf-8").rstrip("\n")


def as_text(found: dict[str, object]) -> str:
    """A list as it is committed."""
    return json.dumps(found, indent=1, sort_keys=True)


def listing(module_name: str) -> dict[str, object]:
    """Members of the classes and enums above, as a module has them."""
    module = importlib.import_module(module_name)
    present = [name for name in CLASSES if hasattr(module, name)]
    return {
        "version": module.__version__,
        "classes": {name: _members(getattr(module, name)) for name in present},
        "enums": {name: _values(module, name) for name in ENUMS if hasattr(module, name)},
    }


def _members(kind: type) -> list[str]:
    return sorted(name for name in dir(kind) if not name.startswith("_"))


def _values(module: object, name: str) -> dict[str, int]:
    members = getattr(module, name).__members__
    return {key: int(members[key]) for key in sorted(members)}


def fetched(version: str) -> str:
    """The list of the bindings of a version, fetched with pip."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _download(version, place)
        bindings = place / "tensorrt_bindings"
        _stand_in(bindings)
        environment = dict(os.environ, LD_LIBRARY_PATH=str(bindings), PYTHONPATH=folder)
        command = [sys.executable, __file__, "list", "tensorrt_bindings"]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return done.stdout.rstrip("\n")


def _download(version: str, place: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*command, str(place), f"tensorrt_cu13_bindings=={version}"], check=True)
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    for wheel in place.glob(f"*{tag}*.whl"):
        zipfile.ZipFile(wheel).extractall(place)


def _stand_in(bindings: Path) -> None:
    """Empty libraries under the names that the binding is linked to."""
    binding = next(bindings.glob("tensorrt*.so"))
    symbols = _said("nm", "-D", "--undefined-only", str(binding)).split()
    names = [s for s in symbols if len(s) > 1 and not _STANDARD.search(s) and _FOREIGN.search(s)]
    source = bindings / "stand_in.c"
    source.write_text("".join(f"void *{name}(void){{return 0;}}\n" for name in names))
    dynamic = _said("readelf", "-d", str(binding))
    for library in re.findall(r"NEEDED.*\[(libnv[^]]*)\]", dynamic):
        command = ["cc", "-w", "-shared", "-fPIC", "-o", str(bindings / library), str(source)]
        subprocess.run([*command, f"-Wl,-soname,{library}"], check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
