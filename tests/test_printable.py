"""What comes from elsewhere and is printed, stored or written into sources."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, UsageError, unknown_choice
from vgg_deploy.files import shown, word
from vgg_deploy.golden import GoldenImage, load_index
from vgg_deploy.report.console import to_rich, to_title
from vgg_deploy.report.plain import _fenced
from vgg_deploy.report.table import simple_table
from vgg_deploy.spec import ModelSpec

EVIL = "a\x1b[2J\x9b31m\x7f.png"
TAMED = r"a\x1b[2J\x9b31m\x7f.png"


def test_no_name_commands_a_terminal() -> None:
    assert shown(Path(EVIL)) == TAMED
    assert shown("two\nlines") == "two\nlines", "whole logs, too"
    error = RefusedInput(f"cannot read {EVIL}", f"look at {EVIL}")
    assert (error.cause, error.remedy) == (f"cannot read {TAMED}", f"look at {TAMED}")
    console = Console(width=80, record=True, file=StringIO())
    console.print(to_rich(simple_table("t", ["name"], [[EVIL]], note="")))
    console.print(to_title(simple_table(EVIL, ["name"], [])))
    text = console.export_text()
    assert text.count(TAMED) == 2
    assert not set(text) & {"\x1b", "\x9b", "\x7f"}


def test_suggested_commands_hold_paths_as_words(tiny_bundle: Bundle) -> None:
    assert word(Path("artifacts/vgg16")) == "artifacts/vgg16"
    root = tiny_bundle.root.parent / "sp ace"
    tiny_bundle.root.rename(root)
    with pytest.raises(RefusedInput) as caught:
        load_index(root / "golden")
    assert f"vgg-deploy export '{root}' --format onnx" in caught.value.remedy


def test_the_beginning_of_a_name_suggests_it() -> None:
    known = ["trt", "ort-cpu", "ort-cuda"]
    assert "did you mean 'ort-cpu'?" in unknown_choice("backend", "ort", known).remedy
    assert "did you mean 'trt'?" in unknown_choice("backend", "trtt", known).remedy
    assert "did you mean" not in unknown_choice("backend", "", known).remedy


@pytest.mark.parametrize("name", ['x", 1}; int evil', "../up", "a b", "", "a\nb"])
def test_golden_names_are_plain_words(name: str) -> None:
    """They stand in C sources."""
    plain = GoldenImage(
        name="test-1", file="test-1.raw", sha256="0" * 64, height=1, width=1, channels=1, top1=0,
        margin=1.0, logits=(1.0,), probabilities=(1.0,),
    )  # fmt: skip
    with pytest.raises(RefusedInput, match="no plain file name"):
        replace(plain, name=name)
    with pytest.raises(RefusedInput, match="no plain file name"):
        replace(plain, file=name)


def test_an_architecture_is_one_word(tiny_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no name of an architecture"):
        replace(tiny_bundle.card.spec, arch='vgg11\nbackend: "python"')
    assert ModelSpec.named("1x4-2x8_bn", size=32, channels=1, classes=10).arch == "1x4-2x8_bn"


def test_no_backtick_ends_the_commands() -> None:
    assert _fenced("a") == "```console\na\n```"
    assert _fenced("a\n```\n<img>") == "````console\na\n```\n<img>\n````"
