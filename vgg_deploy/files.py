"""Writing files so that they are whole or absent, and knowing them by digest and by name."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vgg_deploy.errors import RefusedInput, os_errors, printable

PARTIAL = ".partial-"  # prefix of files that are not finished
_CHUNK = 1 << 20  # bytes


def user_cache(name: str) -> Path:
    """A folder of ours below ``$XDG_CACHE_HOME``, or ``~/.cache``; it need not exist yet.

    Raises ``RefusedInput`` for a user without either, as in a container with a uid of its own.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "vgg-deploy" / name
    except RuntimeError as error:
        raise RefusedInput(
            "this user has no home directory, where the cache would be",
            "set XDG_CACHE_HOME to a folder that you may write to",
        ) from error


def shown(name: object) -> str:
    """A name as it can be printed and stored; control characters and no UTF-8 become escapes."""
    return printable(str(name).encode("utf-8", "backslashreplace").decode())


def word(path: object) -> str:
    """A path as one word of a command that is suggested: quoted where a shell would part it."""
    return shlex.quote(shown(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def refuse_special(path: Path) -> None:
    """``RefusedInput`` for a device, a pipe or a socket: a finished file would take its place."""
    with os_errors(f"write {path}"):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RefusedInput(
                f"{shown(path)} is a device, a pipe or a socket, not a file",
                "give the name of a file",
            )


def refuse_linked(*folders: Path) -> None:
    """``RefusedInput`` for a link in the place of a folder inside a bundle.

    Who made the bundle chose where it leads; what lies there would be overwritten or removed.
    """
    for folder in folders:
        if folder.is_symlink():
            raise RefusedInput(
                f"{shown(folder)} is a link: nothing of a bundle is written through one",
                "remove the link, or put a folder in its place; the bundle itself may be a link",
            )


def destination(path: Path) -> Path:
    """Where a file that a user names is written: the name may be a link, and that stays one.

    Not for what lies in a bundle: a link there may lead into somebody's cache of large files, or
    out of a bundle from elsewhere, and is replaced.
    """
    refuse_special(path)
    with os_errors(f"write {path}"):
        return Path(os.path.realpath(path)) if path.is_symlink() else path


def line_endings(path: Path, sha256: str) -> str | None:
    """What is wrong with a file that has its digest but for CRLF in the place of LF, or None."""
    digest, carry = hashlib.sha256(), b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk = carry + chunk
            carry = b"\r" if chunk.endswith(b"\r") else b""  # its LF may be in the next piece
            digest.update(chunk.removesuffix(carry).replace(b"\r\n", b"\n"))
    digest.update(carry)
    if digest.hexdigest() != sha256:
        return None
    return (
        "was changed: its line endings are CRLF instead of LF, as git's core.autocrlf makes them; "
        "put '* -text' into .gitattributes and check it out again"
    )


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that is gone after the block unless committed.

    The temporary name keeps the ending, because some writers insist on theirs. Raises
    ``RefusedInput`` before anything is written where ``path`` is a device, a pipe or a socket.
    """
    refuse_special(path)
    with os_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(root: Path) -> dict[Path, int]:
    """Staging folders anywhere below ``root`` with the bytes of their files.

    Each is of a command that is still writing, or that was killed.
    """
    found = [
        Path(place, name)
        for place, folders, _ in os.walk(root)
        for name in folders
        if name.startswith(PARTIAL)
    ]
    return {folder: _size_of(folder) for folder in sorted(found)}


def _size_of(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it may be finished at this moment
                total += Path(place, name).lstat().st_size
    return total


def commit(partial: Path, path: Path) -> None:
    """Give a finished temporary file or folder its name.

    The bytes, of all files in a folder, reach the disk before the name does.
    """
    with os_errors(f"write {path}"):
        to_disk(*(partial.rglob("*") if partial.is_dir() else ()), partial)
        partial.replace(path)


def commit_into(partial: Path, folder: Path) -> None:
    """Move what a finished temporary folder holds into an empty one: all of it or nothing.

    The empty one stays what it is: it may be a mount, or somebody's current folder.
    """
    with os_errors(f"write {folder}"):
        to_disk(*partial.rglob("*"), partial)
        names = sorted(path.name for path in partial.iterdir())
        try:
            for name in names:
                (partial / name).rename(folder / name)
        except BaseException:
            for name in names:
                if not (partial / name).exists():
                    (folder / name).rename(partial / name)
            raise
        to_disk(folder)


def commit_over(partial: Path, folder: Path, names: Sequence[str]) -> None:
    """Replace what ``names`` in a folder are by what they are in a finished one: all or nothing.

    A name is a file or a folder, which need not be there before. Until all are replaced, the old
    ones lie beside the finished ones.
    """
    old = partial.with_name("replaced")
    with os_errors(f"write {folder}"):
        to_disk(*partial.rglob("*"), partial)
        done: list[str] = []
        try:
            for name in names:
                done.append(name)
                _swap(folder / name, partial / name, old / name)
        except BaseException:
            for name in reversed(done):
                _swap_back(folder / name, partial / name, old / name)
            raise
        to_disk(*{(folder / name).parent for name in names})


def _swap(path: Path, new: Path, old: Path) -> None:
    old.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.rename(old)
    new.rename(path)


def _swap_back(path: Path, new: Path, old: Path) -> None:
    """Whatever of it was done."""
    if not new.exists():
        path.rename(new)
    if os.path.lexists(old):
        old.rename(path)


def to_disk(*paths: Path) -> None:
    """Wait until files, and the names in folders, are on the disk."""
    for path in paths:
        folder = path.is_dir()
        if folder and os.name == "nt":  # they have no descriptor there
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if not (folder and error.errno == errno.EINVAL):  # CIFS and FUSE sync no folders
                raise
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with what it holds; of a mount, only what it holds."""
    with os_errors(f"remove {path}"):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return
        try:
            shutil.rmtree(path)
        except OSError:
            if any(path.iterdir()):
                raise


def usual_mode(path: Path) -> None:
    """The rights that a file made with ``open`` has: safetensors gives its own to nobody else."""
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    path.chmod(0o666 & ~mask)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the name ``path`` only if the block succeeds.

    On any exception, Ctrl-C included, nothing is left behind and an old ``path`` is untouched.
    """
    with staged(path) as partial:
        yield partial
        commit(partial, path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as partial, os_errors(f"write {path}"):
        partial.write_text(text, encoding="utf-8")
