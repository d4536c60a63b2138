"""Where a check of a machine works, in names that may be stored: no path of that machine.

What is planned and kept has these names; only a step that is run gets the paths themselves.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vgg_deploy.pipeline.machine_steps import Done, Options, Step, bundle_of

_SYSTEM = frozenset(("bin", "dev", "etc", "lib", "lib64", "proc", "sys", "usr"))  # on any machine
_ABSOLUTE = re.compile(r"""(?<![\w.~/\\:+-])/[^\s"'`,;:()\[\]{}<>|]+""")


@dataclass(frozen=True)
class Places:
    """The paths of a check's options, and what they are called."""

    given: Options

    @cached_property
    def told(self) -> Options:
        """The options with names for paths; relative ones stay as they are."""
        work = Path(self.given.work)
        python, other = _name(self.given.python), _name(self.given.trt_python)
        if python == other and self.given.python != self.given.trt_python:
            other += " (TensorRT's)"
        name = work.name if work.is_absolute() else self.given.work
        return replace(self.given, work=name, python=python, trt_python=other)

    @property
    def key(self) -> str:
        """SHA-256 of the paths as they were given: two of them may have the same name."""
        paths = (self.given.work, self.given.python, self.given.trt_python)
        return hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()

    def real(self, step: Step) -> Step:
        """A step as it is run: with the paths in the place of their names."""
        paths = {told: given for given, told in self._pythons.items()}
        named, bundle = (bundle_of(o, step.network) for o in (self.told, self.given))
        words = tuple(bundle if step.network and w == named else w for w in step.words)
        return replace(step, python=paths[step.python], words=words)

    def named(self, done: Done) -> Done:
        """What a step ended with, as it may be stored."""
        step = done.step
        python = self._pythons.get(step.python, _name(step.python))
        step = replace(step, python=python, words=tuple(map(self.text, step.words)))
        return replace(done, step=step, said=self.text(done.said), answer=self._value(done.answer))

    def text(self, text: str) -> str:
        """With names for the paths of the options and for others of this machine."""
        for path, name in self._known:
            ends = rf"(?<![\w.~-]){re.escape(path)}(?![\w-]|\.\w)"
            text = re.sub(ends, name.replace("\\", r"\\"), text)
        return _ABSOLUTE.sub(_name_in_text, text)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self._value(one) for key, one in value.items()}
        return [self._value(one) for one in value] if isinstance(value, list) else value

    @property
    def _pythons(self) -> Mapping[str, str]:
        given, told = self.given, self.told
        return {given.python: told.python, given.trt_python: told.trt_python}

    @cached_property
    def _known(self) -> list[tuple[str, str]]:
        """Absolute paths and their names, the longest first: one may lie in another.

        Last the work folder, whose name the words of steps have: it may be the home.
        """
        known = {path: "~" for home in _homes() for path in _forms(home)}
        known |= {path: name for path, name in self._pythons.items() if Path(path).is_absolute()}
        known |= dict.fromkeys(_forms(self.given.work), self.told.work)
        return sorted(known.items(), key=lambda row: -len(row[0]))


def _name(path: str) -> str:
    """From the user's home on, else the last two parts; an interpreter's environment, too."""
    parts = Path(path).parts[1:]
    if not Path(path).is_absolute() or not parts or parts[0] in _SYSTEM:
        return path
    for home in _homes():
        if Path(path).is_relative_to(home):
            return (Path("~") / Path(path).relative_to(home)).as_posix()
    return "/".join(parts[-3 if parts[-2:-1] in (("bin",), ("Scripts",)) else -2 :])


def _name_in_text(found: re.Match[str]) -> str:
    """Only what begins with a folder of this machine: names of layers may look like paths."""
    path = found[0]
    first, _, rest = path[1:].partition("/")
    return _name(path) if rest and Path("/", first).is_dir() else path


def _homes() -> list[str]:
    try:
        home = Path.home()
    except RuntimeError:  # a user without one
        return []
    return [str(home)] if home.name else []  # "/" is the home of some containers' users


def _forms(path: str) -> set[str]:
    """As libraries may tell it: absolute, and with links followed."""
    forms = {str(Path(path).absolute()), os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100
    return {form for form in forms if Path(form).name}
