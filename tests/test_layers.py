"""Who may import whom, lazy imports included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "vgg_deploy"
ANYONE = {"errors", "artifact", "results", "environment", "spec", "files", "jsonio", "golden"}
ANYONE |= {"libraries", "gates", "stored", "cuda", "process", "compiler", "inductor", "cgroup"}
ANYONE |= {"bounds", "onnx_source"}
VALUES = ANYONE | {"__version__"}
ALLOWED: dict[str, set[str]] = {
    "model": {"model"},
    "data": {"data"},
    # whether the file itself has the labels that the app gets
    "embed": {"embed", "bundle", "verify.said"},
    "replacing": {"manifest"},
    "bundle": {"manifest", "replacing"},
    "train": {"train", "model", "data", "bundle"},
    "export": {"export", "model", "data", "bundle"},
    "precision": {"precision", "data", "bundle"},
    "trt": {"trt", "bundle"},
    # of trt only what opening a plan needs: nothing that builds
    "backends": {"backends", "trt.flavour", "trt.log", "trt.match", "trt.profile", "trt.failure"},
    "verify": {"verify", "backends.base", "data"},
    # the layers of a network, to count what they cost: no torch there
    "bench": {"bench", "backends.base", "model.layers"},
    # nothing but stored results and plain values: no torch below these two
    "report": {"report", "bundle", "model.summary", "model.layers"}
    | {"trt.layers", "trt.match", "train.recipes"}
    | {"bench.stats", "bench.figures", "bench.paired", "bench.diff", "bench.roofline"},
    "pipeline": {"pipeline", "train", "export", "precision", "backends", "verify", "bench"}
    | {"report", "model", "data", "bundle", "doctor", "trt"},
    "doctor": {"backends", "data", "model", "export", "bundle", "trt.flavour"},
    "cli": {"cli", "pipeline", "doctor", "bundle", "report", "model", "export", "backends"}
    | {"data", "train", "precision", "trt.options", "trt.profile"},
}
EXCEPTIONS = {
    "backends/pytorch.py": {"model"},
    "backends/reference.py": {"model"},
    "__main__.py": {"cli"},
    "train/__main__.py": {"cli"},  # what torchrun starts is the command itself
    "backends/torch_gpu.py": {"model"},
}
for row in ALLOWED.values():  # a bundle's records come with it
    row.update({"manifest", "replacing"} if "bundle" in row else ())
ALLOWED["report"] |= {"bench.capacity"}
ALLOWED["cli"] |= {"embed", "bench.capacity"}


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a file imports, without the package's name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "vgg_deploy":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("vgg_deploy."):
                found.add((node.module or "").removeprefix("vgg_deploy."))
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("vgg_deploy.")
                for alias in node.names
                if alias.name.startswith("vgg_deploy.")
            }
    return found


def permitted(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


FILES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_stay_within_the_layers(file: Path) -> None:
    layer = file.parts[0].removesuffix(".py")
    allowed = VALUES | ALLOWED.get(layer, set()) | EXCEPTIONS.get(str(file), set())
    bad = {m for m in imports_of(ROOT / file) if not permitted(m, allowed)}
    assert not bad, f"{file} may not import {sorted(bad)}"


def test_the_walk_sees_lazy_imports(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from vgg_deploy.cli import app\n", encoding="utf-8")
    assert imports_of(path) == {"cli"}
