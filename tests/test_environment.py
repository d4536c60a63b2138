"""Versions, processor, threads, and which GPU a result is told to be of.

With stand-ins for packages, for the kernel's table of processors and for the driver's tool.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.drafts import draft, writes
from vgg_deploy import environment
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import UsageError

TOOL = f"""#!{sys.executable}
import sys
rows = {{"0": "NVIDIA T4", "1": "NVIDIA L4", "GPU-1f": "NVIDIA L4"}}
chosen = sys.argv[sys.argv.index("-i") + 1] if "-i" in sys.argv else None
if chosen and chosen not in rows:
    sys.exit(6)
for name in [rows[chosen]] if chosen else list(rows.values())[:2]:
    print(name + ", 595.71")
"""


@pytest.mark.parametrize(
    ("visible", "order", "name"),
    [
        (None, "PCI_BUS_ID", "NVIDIA T4"),
        ("", "PCI_BUS_ID", "NVIDIA T4"),
        ("0,1", "PCI_BUS_ID", "NVIDIA T4"),
        ("1", "PCI_BUS_ID", "NVIDIA L4"),
        ("1,0", "PCI_BUS_ID", "NVIDIA L4"),
        ("1", None, "NVIDIA T4"),  # CUDA's own order is not the tool's
        ("GPU-1f", None, "NVIDIA L4"),
        ("GPU-99", None, "NVIDIA T4"),  # unknown to the tool
        ("MIG-3a", None, "NVIDIA T4"),
    ],
)
def test_the_gpu_is_the_first_visible_one(
    visible: str | None,
    order: str | None,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(TOOL, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert environment._nvidia() == (name, "595.71")


def test_without_the_tool_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._nvidia() == (None, None)


@pytest.fixture
def no_build() -> Iterator[None]:
    """What was found for other names is forgotten before and after."""
    environment._other_build.cache_clear()
    yield
    environment._other_build.cache_clear()


def installed(folder: Path, name: str, version: str, module: str) -> None:
    """A distribution as pip leaves it: the module, its metadata, its record."""
    package, info = folder / module, folder / f"{name.replace('-', '_')}-{version}.dist-info"
    for path in (package, info):
        path.mkdir()
    (package / "__init__.py").touch()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{info.name}/METADATA,,\n")


def test_a_folder_that_an_uninstall_left_is_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle
) -> None:
    (tmp_path / "left_behind-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert environment.versions("left-behind", "numpy") == {"numpy": metadata.version("numpy")}
    made_by = environment.versions("left-behind")
    made = replace(draft(tiny_bundle, "onnx", tiny_bundle.checkpoint.sha256), made_by=made_by)
    bundle, _ = tiny_bundle.add(made, writes(b"x"))
    assert open_bundle(bundle.root) == bundle


@pytest.mark.usefixtures("no_build")
@pytest.mark.parametrize(
    ("name", "module"), [("onnxruntime-directml", "onnxruntime"), ("tensorrt-cu12", "tensorrt")]
)
def test_a_build_of_another_name_has_a_version(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, name, "1.24", module)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert environment.versions() == {module: f"1.24 ({name})"}
    environment._other_build.cache_clear()
    usual = tmp_path / "usual"
    usual.mkdir()
    installed(usual, module, "1.31", module)
    monkeypatch.setattr(sys, "path", [str(usual), str(tmp_path)])
    assert environment.versions() == {module: "1.31"}


@pytest.mark.usefixtures("no_build")
def test_what_an_uninstall_left_hides_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "onnxruntime-directml", "1.24", "onnxruntime")
    left = tmp_path / "another-1.0.dist-info"
    left.mkdir()
    (left / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert environment.versions() == {"onnxruntime": "1.24 (onnxruntime-directml)"}


@pytest.mark.usefixtures("no_build")
def test_records_are_read_only_where_the_module_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted() -> list[metadata.Distribution]:
        asked.append(True)
        return []

    monkeypatch.setattr(metadata, "distributions", noted)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert environment.versions() == {}
    assert not asked


@pytest.mark.parametrize(
    ("wanted", "threads"),
    [("3", 3), ("3,1", 3), (" 3 , 1", 3), ("3,many", 3), ("", 7), (" ", 7)],
)
def test_threads_are_those_of_the_outermost_level(
    wanted: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(environment, "usable_cores", lambda: 7)
    assert environment.threads() == threads


@pytest.mark.parametrize("wanted", ["0", "-1", "many", "2.5", ",2", "0,4", "²"])
def test_what_is_no_number_of_threads_is_refused(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    with pytest.raises(UsageError, match="OMP_NUM_THREADS") as caught:
        environment.threads()
    assert repr(wanted) in caught.value.cause


ARM = "CPU implementer\t: 0x41\nCPU part\t: 0xd40\nFeatures\t: fp asimd asimdhp i8mm\n\nx: y\n"
X86 = "model name\t: Some CPU\nflags\t: fpu avx2 fma avx512f sme\n\nmodel name\t: Another\n"


@pytest.mark.parametrize(
    ("table", "name", "flags"),
    [
        (ARM, "CPU implementer 0x41, CPU part 0xd40", ("asimd", "asimdhp", "i8mm")),
        (X86, "Some CPU", ("avx2", "fma", "avx512f")),
    ],
)
def test_processors_are_told_apart(
    table: str,
    name: str,
    flags: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(table, encoding="utf-8")
    read: Callable[[], dict[str, str]] = environment._cpuinfo.__wrapped__
    monkeypatch.setattr(environment, "_cpuinfo", read)
    monkeypatch.setattr(environment, "Path", lambda _: path)
    assert environment._cpu_name() == name
    assert environment._cpu_flags() == flags
