"""Commands that messages and help suggest can be typed: they exist, with these options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import vgg_deploy
from vgg_deploy.cli.app import COMMANDS, app

SOURCES = [
    path
    for path in sorted(Path(vgg_deploy.__file__).parent.rglob("*.py"))
    if "templates" not in path.parts
]
KNOWN: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
# A command with the options after it, and a word after each, which may be its value.
SUGGESTED = re.compile(
    r"(?<!Example: )vgg-deploy (?P<name>[a-z]+(?:-[a-z]+)*)\b"
    r"(?P<words>(?: +(?:(?:-[a-z]|--[a-z][a-z0-9-]*)(?: [\w.:/]+)?|BUNDLE|FILE|VALUE[\w.]*))*)"
)
PROSE = {"itself", "wrote", "made", "that", "reads", "is", "cannot", "model", "golden", "with"}


def texts(source: str) -> Iterator[str]:
    """Every string of a module; what is filled in is VALUE."""
    nodes = list(ast.walk(ast.parse(source)))
    joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for parts in joined for part in parts}
    for parts in joined:
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in parts
        )
    for node in nodes:
        if isinstance(node, ast.Constant) and id(node) not in inside:
            yield str(node.value)


def problems(text: str) -> Iterator[str]:
    """What is wrong with the commands in a text; one without any word after it is its name."""
    for found in SUGGESTED.finditer(text):
        name, words = found["name"], found["words"].split()
        if name not in KNOWN:
            if name not in PROSE:
                yield f"{found[0]}: there is no {name}"
            continue
        parameters = [p for p in KNOWN[name].params if p.param_type_name == "option"]
        known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
        given = {word for word in words if word.startswith("-")}
        if unknown := given - known - {"--help"}:
            yield f"{found[0]}: {name} has no {', '.join(unknown)}"
        lacking = [p.opts[0] for p in parameters if p.required and not given & set(p.opts)]
        if words and given != {"--help"} and lacking:
            yield f"{found[0]}: {name} needs {', '.join(lacking)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_suggested_commands_can_be_typed(path: Path) -> None:
    found = [problem for text in texts(path.read_text()) for problem in problems(text)]
    assert not found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("make it: vgg-deploy exprot X", "there is no exprot"),
        ("vgg-deploy export BUNDLE --form onnx", "export has no --form"),
        ("vgg-deploy load --weights FILE --arch vgg16", "load needs --out"),
        ("go on with vgg-deploy train --resume", "train needs --out"),
        ("vgg-deploy train --help", ""),
        ("run vgg-deploy verify first", ""),
    ],
)
def test_what_cannot_be_typed_is_found(text: str, problem: str) -> None:
    found = list(problems(text))
    assert len(found) == bool(problem)
    assert all(one.endswith(problem) for one in found)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_parse(command: str) -> None:
    told = COMMANDS[command].__doc__ or ""
    examples = [" ".join(part.split()) for part in told.split("Example: vgg-deploy ")[1:]]
    assert examples
    for example in examples:
        name, *words = shlex.split(example)
        KNOWN[name].make_context(name, words)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_has_a_help(command: str) -> None:
    bare = [p.name for p in KNOWN[command].params if not getattr(p, "help", None)]
    assert not bare


def test_one_letter_is_one_option() -> None:
    letters: dict[str, set[str]] = {}
    for command in KNOWN.values():
        for parameter in command.params:
            short = [o for o in parameter.opts if len(o) == 2]
            long = [o for o in parameter.opts if o.startswith("--")]
            for letter in short:
                letters.setdefault(letter, set()).update(long)
    assert all(len(names) == 1 for names in letters.values()), letters
    assert letters["-p"] == {"--precision"}
