"""``manifest.json`` of a bundle, and what keeps it true: records, orphans, the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact, Format, Precision, Target, TensorSpec, file_name
from vgg_deploy.errors import RefusedInput, ResourceLimit, os_errors
from vgg_deploy.files import sha256_of
from vgg_deploy.golden import GoldenRecord
from vgg_deploy.spec import ModelCard

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
_LOCK = ".lock"
_LOCK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of ``manifest.json``."""

    schema_version: int
    card: ModelCard
    artifacts: tuple[Artifact, ...]
    golden: GoldenRecord | None = None


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


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle in ``root``; of another schema, or with paths outside: refused."""
    manifest = jsonio.load(Manifest, root / MANIFEST)
    if manifest.schema_version != SCHEMA_VERSION:
        raise RefusedInput(
            f"{root / MANIFEST} has schema version {manifest.schema_version}, "
            f"this vgg-deploy reads {SCHEMA_VERSION}",
            "use the version of vgg-deploy that made the bundle, or make it again",
        )
    for artifact in manifest.artifacts:
        if artifact.path.is_absolute() or ".." in artifact.path.parts:
            raise RefusedInput(
                f"{root / MANIFEST} names a file outside the bundle: {artifact.path}",
                "use a bundle from a source you trust",
            )
    return manifest


def save_manifest(root: Path, manifest: Manifest) -> None:
    """Replace the manifest on disk, atomically."""
    jsonio.save(root / MANIFEST, manifest)


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


def drop_files(root: Path, before: Iterable[Artifact], after: Iterable[Artifact]) -> None:
    """Remove the files of artifacts that are in ``before`` and no longer in ``after``."""
    kept = {a.path for a in after}
    for artifact in before:
        if artifact.path not in kept:
            path = root / artifact.path
            path.unlink(missing_ok=True)
            if artifact.format == "engine":
                notes_path(path).unlink(missing_ok=True)
