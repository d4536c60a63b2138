"""Command lines as one would type them, and how a bundle is called."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from vgg_deploy.bundle import Bundle
from vgg_deploy.files import shown

COMMAND = "vgg-deploy"
BUNDLE, DIR, FILE, PATH = "BUNDLE", "DIR", "FILE", "PATH"  # in place of what is not on record


def bundle_name(bundle: Bundle) -> str:
    """The bundle as one would type it; of an absolute path only its last part."""
    root = bundle.root
    return shown(root.name if root.is_absolute() or ".." in root.parts else root)


def title_of(bundle: Bundle) -> str:
    """The name of a bundle's folder."""
    return shown(bundle.root.absolute().name)


def line(*words: str) -> str:
    """A command of ours, quoted for a shell."""
    return shlex.join((COMMAND, *words))


def untold(command: str, **missing: str) -> str:
    """A comment with a command that the records do not tell in full.

    ``missing`` says of each word in capitals that stands in it what belongs in its place.
    """
    return comment(f"{command}  # {'; '.join(f'{word}: {what}' for word, what in missing.items())}")


def comment(text: str) -> str:
    """A line that a shell passes over; what breaks lines, as names may, does not end it."""
    return f"# {' '.join(text.splitlines())}"


def each(option: str, values: Iterable[str]) -> list[str]:
    """An option that is given once for each value."""
    return [word for value in values for word in (option, value)]
