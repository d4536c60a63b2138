"""``manifest.json`` of a bundle, and what keeps it true: records, orphans, the lock."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact, Format, Precision, Target, TensorSpec, file_name
from vgg_deploy.errors import RefusedInput, ResourceLimit, UsageError, VggDeployError, os_errors
from vgg_deploy.files import commit, sha256_of, shown, write_text
from vgg_deploy.golden import GoldenRecord
from vgg_deploy.spec import ModelCard

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_VERSION = jsonio.Version(
    "schema_version",
    SCHEMA_VERSION,
    "use the version of vgg-deploy that made the bundle, or make it again",
)
_LOCK = ".lock"
_GIT = ".gitattributes"
_LOCK_SECONDS = 60
# What `file_name` gives. Such a file may be removed; the manifest, records and folders may not.
_NAME = re.compile(r"(checkpoint|model)(\.[A-Za-z0-9_+-]+)+")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of ``manifest.json``."""

    schema_version: int
    card: ModelCard
    artifacts: tuple[Artifact, ...]
    golden: GoldenRecord | None = None

    def __post_init__(self) -> None:
        """``UsageError`` for an artifact of another network than the card's."""
        spec = self.card.spec
        side = spec.size
        of = {"NCHW": (spec.channels, side, side), "NHWC": (side, side, spec.channels)}
        for artifact in self.artifacts:
            for tensor in (artifact.input, artifact.output):
                pairs = zip(tensor.shape[1:], of.get(tensor.layout, (spec.classes,)), strict=True)
                if any(isinstance(have, int) and have != want for have, want in pairs):
                    raise UsageError(
                        f"{tensor.name} of {artifact.path} has the shape {list(tensor.shape)}, "
                        "which is not that of the card's network",
                        "restore the file, or make the bundle again",
                    )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Everything about an artifact that is known before its bytes are."""

    format: Format
    precision: Precision
    input: TensorSpec
    output: TensorSpec
    parent: str | None
    made_by: Mapping[str, str]
    target: Target | None = None

    @property
    def name(self) -> str:
        """What the file will be called."""
        return file_name(self.format, self.precision, self.target)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the bundle's lock; ``ResourceLimit`` when another command keeps it for a minute."""
    with os_errors(f"write to {root}"):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout as error:
            raise ResourceLimit(
                f"another command has been writing to {root} for {_LOCK_SECONDS} s",
                "wait for it to end and try again",
            ) from error
    try:
        yield
    finally:
        lock.release()


def has_manifest(root: Path) -> bool:
    """Whether ``root`` holds a manifest that may be ours; a damaged one may.

    Web apps, browser extensions and other tools have a ``manifest.json``, too.
    """
    path = root / MANIFEST
    if not path.is_file():
        return False
    with os_errors(f"read {path}"):
        text = path.read_bytes()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return isinstance(document, dict) and "schema_version" in document


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle in ``root``.

    Raises ``RefusedInput`` for one of another schema, or whose artifacts have names that none has:
    what is no longer made of the checkpoint is removed by its name.
    """
    path = root / MANIFEST
    manifest = jsonio.load(Manifest, path, _VERSION)
    for artifact in manifest.artifacts:
        if not _NAME.fullmatch(str(artifact.path)):
            raise RefusedInput(
                f"{path} names a file that is no artifact, or lies outside the bundle: "
                f"{shown(artifact.path)}",
                "use a bundle from a source you trust",
            )
    return manifest


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Replace the manifest on disk, atomically; never by one that could not be read again."""
    text = jsonio.dumps(manifest)
    jsonio.loads(Manifest, text, source=f"what was to be written to {root / MANIFEST}")
    write_text(root / MANIFEST, text + "\n")


def spare_line_endings(root: Path) -> None:
    """git changes no byte of what has a digest, whatever its ``core.autocrlf`` says."""
    with suppress(VggDeployError):  # the bundle is whole without it
        if not (root / _GIT).exists():
            write_text(root / _GIT, "* -text\n")


def put_in_place(root: Path, manifest: Manifest, *moves: tuple[Path, Path]) -> None:
    """Give each staged file of ``moves`` its name and save the manifest: all, or nothing.

    What had a name before is kept in the staging folder until the manifest is saved, and comes
    back when that fails. The files go first, what the manifest names last of them: after a power
    cut between, a new file is one that no manifest names, and one in the place of another is found
    by its digest, while the other still lies in the staging folder. Making it again mends both.
    """
    replaced = moves[0][0].with_name("replaced")
    try:
        with os_errors(f"write {moves[-1][1]}"):
            replaced.mkdir()
            for partial, target in moves:
                _keep(target, replaced / partial.name)
        for partial, target in moves:
            commit(partial, target)
        save_manifest(root, manifest)
    except BaseException:
        have_their_names = not any(partial.exists() for partial, _ in moves)
        if not (have_their_names and _is_saved(root, manifest)):  # Ctrl-C may come after it was
            for partial, target in moves:
                with suppress(OSError):  # the first error says more
                    _put_back(partial, target, replaced / partial.name)
        raise


def _put_back(partial: Path, target: Path, aside: Path) -> None:
    if not partial.exists():
        target.replace(partial)
    if aside.exists():
        aside.replace(target)


def _keep(target: Path, aside: Path) -> None:
    """A second name for a file, so that the first is never without one; a folder is moved."""
    if not target.exists():
        return
    if target.is_file():
        with suppress(OSError):  # a file system without links
            os.link(target, aside)
            return
    target.replace(aside)


def _is_saved(root: Path, manifest: Manifest) -> bool:
    try:
        return read_manifest(root) == manifest
    except VggDeployError:
        return False


def written(partial: Path, target: Path, draft: Draft, write: Callable[[Path], None]) -> Artifact:
    """Let ``write`` make ``partial``; the record of what is to be called ``target``."""
    with os_errors(f"write {target}"):
        write(partial)
        digest, size = sha256_of(partial), partial.stat().st_size
    return Artifact(
        path=PurePosixPath(target.name),
        format=draft.format,
        precision=draft.precision,
        input=draft.input,
        output=draft.output,
        target=draft.target,
        sha256=digest,
        size_bytes=size,
        parent=draft.parent,
        made_by=dict(sorted(draft.made_by.items())),
    )


def entered(manifest: Manifest, artifact: Artifact) -> Manifest:
    """The manifest with ``artifact`` in it, in the place of what it replaced, without orphans."""
    before = manifest.artifacts
    entries = [artifact if a.path == artifact.path else a for a in before]
    if artifact not in entries:
        entries.append(artifact)
    while True:  # a dropped parent may leave further orphans
        alive = {a.sha256 for a in entries}
        kept = [a for a in entries if a is artifact or a.parent is None or a.parent in alive]
        if len(kept) == len(entries):
            break
        entries = kept
    current = manifest.golden
    if current is not None and current.parent not in alive:
        current = None
    return replace(manifest, artifacts=tuple(kept), golden=current)


def notes_path(plan: Path) -> Path:
    """Where an engine's layers and build are described: beside the plan, gone with it."""
    return plan.with_name(plan.name + ".json")


def strays(root: Path, manifest: Manifest) -> list[Path]:
    """Files with an artifact's name that the manifest does not name, as another version's."""
    known = {str(a.path) for a in manifest.artifacts}
    known |= {notes_path(Path(a.path)).name for a in manifest.artifacts if a.format == "engine"}
    with os_errors(f"read {root}"):
        files = sorted(path for path in root.iterdir() if path.is_file())
    return [path for path in files if _NAME.fullmatch(path.name) and path.name not in known]


def drop_files(root: Path, before: Iterable[Artifact], after: Iterable[Artifact]) -> None:
    """Remove the files of artifacts that are in ``before`` and no longer in ``after``."""
    kept = {a.path for a in after}
    for artifact in before:
        if artifact.path not in kept:
            path = root / artifact.path
            with os_errors(f"remove {path}"):
                path.unlink(missing_ok=True)
                if artifact.format == "engine":
                    notes_path(path).unlink(missing_ok=True)
