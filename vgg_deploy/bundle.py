"""A bundle: a folder of artifacts with ``manifest.json``.

Files enter whole or not at all; the manifest holds the SHA-256, size and parent of each and is
replaced atomically under a lock, so that two commands may write to one bundle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.errors import (
    DigestMismatch,
    RefusedInput,
    VggDeployError,
    os_errors,
    unknown_choice,
)
from vgg_deploy.files import remove, sha256_of, staged
from vgg_deploy.golden import FOLDER as GOLDEN_FOLDER
from vgg_deploy.golden import problem_of, record_of
from vgg_deploy.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Draft,
    Manifest,
    drop_files,
    entered,
    has_manifest,
    locked,
    put_in_place,
    read_manifest,
    written,
)
from vgg_deploy.spec import ModelCard

TRAINING = "training"  # folder of a run inside the bundle
# Of a bundle's model, beside its artifacts: results, golden vectors, the training run, reports.
RECORDS = ("results", GOLDEN_FOLDER, TRAINING, "report.html", "report.md", "report.json")
_CHECKPOINTS = f"{TRAINING}/checkpoints"  # of a run that was interrupted


@dataclass(frozen=True)
class Bundle:
    """An open bundle: its folder and the manifest as it was read or last written."""

    root: Path
    manifest: Manifest

    @property
    def card(self) -> ModelCard:
        """The model all artifacts of this bundle are forms of."""
        return self.manifest.card

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All artifacts, in the order they were added."""
        return self.manifest.artifacts

    @property
    def checkpoint(self) -> Artifact:
        """The checkpoint everything else was made from."""
        found = self.find("checkpoint")
        if found is None:
            raise RefusedInput(
                f"bundle {self.root} has no checkpoint", "make one with train or load"
            )
        return found

    def find(self, format: Format, precision: Precision = "fp32") -> Artifact | None:
        """The artifact of that format and precision, if there is one; of engines the first."""
        wanted = (format, precision)
        return next((a for a in self.artifacts if (a.format, a.precision) == wanted), None)

    def named(self, name: str) -> Artifact:
        """The artifact of that file name; a file that the manifest does not hold is refused."""
        for artifact in self.artifacts:
            if str(artifact.path) == name:
                return artifact
        if (self.root / name).is_file():
            raise RefusedInput(
                f"{name} lies in {self.root}, but its manifest does not name it",
                "only files that vgg-deploy made and recorded are opened; make it again",
            )
        raise unknown_choice("artifact", name, [str(a.path) for a in self.artifacts])

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact lies on this machine."""
        return self.root / artifact.path

    def add(self, draft: Draft, write: Callable[[Path], None]) -> tuple[Bundle, Artifact]:
        """Let ``write`` make the file, then enter it into the manifest.

        An artifact of the same name is replaced, and what was made from it is dropped: those
        files describe weights that are gone. ``DigestMismatch`` when another command has replaced
        what it was made from meanwhile.
        """
        target = self.root / draft.name
        with staged(target) as partial:
            artifact = written(partial, target, draft, write)
            with locked(self.root):
                current = read_manifest(self.root)
                _require_parent(self.root, current, draft.parent, draft.name)
                manifest = entered(current, artifact)
                put_in_place(self.root, manifest, partial, target)
                drop_files(self.root, current.artifacts, manifest.artifacts)
        return Bundle(self.root, manifest), artifact

    @property
    def golden_folder(self) -> Path:
        """Where the golden vectors lie, if there are any."""
        return self.root / GOLDEN_FOLDER

    def add_golden(self, made_by: Mapping[str, str], write: Callable[[Path], None]) -> Bundle:
        """Let ``write`` fill a folder of golden vectors, then put it in place of the old one."""
        target = self.golden_folder
        with staged(target) as partial:
            with os_errors(f"write {target}"):
                partial.mkdir()
                write(partial)
            record = record_of(partial, self.checkpoint.sha256, made_by)
            with locked(self.root):
                current = read_manifest(self.root)
                _require_parent(self.root, current, record.parent, GOLDEN_FOLDER)
                manifest = replace(current, golden=record)
                put_in_place(self.root, manifest, partial, target)
        return Bundle(self.root, manifest)

    def golden_problem(self) -> str | None:
        """What is wrong with the golden vectors, or None; None too where there are none."""
        record = self.manifest.golden
        return problem_of(self.golden_folder, record) if record else None

    def check_golden(self) -> None:
        """Raise ``DigestMismatch`` for golden vectors that are not what the manifest says."""
        if problem := self.golden_problem():
            raise DigestMismatch(problem, f"make them again: vgg-deploy export {self.root}")

    def check(self, artifacts: Iterable[Artifact] | None = None) -> None:
        """Raise ``DigestMismatch`` for the first file that is not what the manifest says.

        Without ``artifacts`` all of them and the golden vectors are looked at.
        """
        if artifacts is None:
            self.check_golden()
        for artifact in self.artifacts if artifacts is None else artifacts:
            if problem := self.problem(artifact):
                raise DigestMismatch(
                    f"{self.root / artifact.path} {problem}",
                    "restore the file, or make it again with the command that made it",
                )

    def problem(self, artifact: Artifact) -> str | None:
        """What is wrong with an artifact's file, or None."""
        path = self.path(artifact)
        if not path.is_file():
            return "is missing"
        with os_errors(f"read {path}"):
            size = path.stat().st_size
            if size != artifact.size_bytes:
                return f"has {size:,} bytes instead of {artifact.size_bytes:,}"
            if sha256_of(path) != artifact.sha256:
                return "was changed: its SHA-256 differs from the manifest's"
        return None


def open_bundle(root: Path) -> Bundle:
    """Read a bundle's manifest; its files are not read (see ``Bundle.check``)."""
    if not root.exists():
        raise RefusedInput(f"no bundle at {root}", "make one with vgg-deploy train or load")
    if not root.is_dir():
        raise RefusedInput(f"{root} is a file, not a bundle", "give the folder of a bundle")
    if not (root / MANIFEST).is_file():
        raise RefusedInput(
            f"{root} is not a bundle: it has no {MANIFEST}",
            "give a folder that vgg-deploy train or load made",
        )
    return Bundle(root, read_manifest(root))


def _require_parent(root: Path, current: Manifest, parent: str | None, name: str) -> None:
    if parent is not None and parent not in {a.sha256 for a in current.artifacts}:
        raise DigestMismatch(
            f"what {name} was made from is no longer in {root}: another command has replaced it",
            "run the command again",
        )


def create_bundle(
    root: Path,
    card: ModelCard,
    draft: Draft,
    write: Callable[[Path], None],
    *,
    replace: bool,
    own: Collection[str] = (),
) -> tuple[Bundle, Artifact]:
    """Make a bundle from a checkpoint that ``write`` writes.

    A folder that already is a bundle is refused unless ``replace``; then everything that was
    made from the old checkpoint goes with it, but for the maker's ``own`` folders. One that is
    no bundle is refused where it holds what a bundle would call its own.
    """
    refuse_existing(root, replace=replace, own=own)
    target = root / draft.name
    with staged(target) as partial:
        artifact = written(partial, target, draft, write)
        manifest = Manifest(schema_version=SCHEMA_VERSION, card=card, artifacts=(artifact,))
        with locked(root):
            refuse_existing(root, replace=replace, own=own)  # another command may have come first
            replaces = has_manifest(root)
            before = _replaced(root)
            put_in_place(root, manifest, partial, target)
            drop_files(root, before, manifest.artifacts)
            if replaces:
                _drop_records(root, own)
    return Bundle(root, manifest), artifact


def _drop_records(root: Path, own: Collection[str]) -> None:
    """Remove what was measured and told of an earlier checkpoint: all that can be removed."""
    errors: list[VggDeployError] = []
    for name in RECORDS:
        if name not in own:
            try:
                remove(root / name)
            except VggDeployError as error:
                errors.append(error)
    if errors:
        raise RefusedInput(
            f"{root} is made, but a record of the model before stays: {errors[0].cause}",
            "remove it yourself",
        ) from errors[0]


def _replaced(root: Path) -> tuple[Artifact, ...]:
    """What a new bundle takes the place of; a manifest that cannot be read names no files."""
    try:
        return read_manifest(root).artifacts if has_manifest(root) else ()
    except VggDeployError:
        return ()


def refuse_existing(
    root: Path, *, replace: bool, make: bool = True, own: Collection[str] = ()
) -> None:
    """Refuse, before any work is done, a place where a new bundle must not go.

    ``own`` are folders that the maker may have left there itself.
    """
    if any(parent.exists() and not parent.is_dir() for parent in root.parents):
        raise RefusedInput(f"{root} lies below a file", "choose another folder with -o")
    if root.exists() and not root.is_dir():
        raise RefusedInput(f"{root} is a file, not a folder", "choose a folder with -o")
    if has_manifest(root) and not replace:
        raise RefusedInput(
            f"{root} already is a bundle", "choose another folder with -o, or add --replace"
        )
    if strangers := _strangers(root, own):
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise RefusedInput(
            f"{root} is no bundle, but holds {strangers[0]}{more}, as a bundle would",
            "choose another folder with -o, or move that away: it would be overwritten",
        )
    if not own and any((root / _CHECKPOINTS).glob("step-*")):
        raise RefusedInput(
            f"{root} holds a training that was interrupted",
            f"go on with vgg-deploy train --resume, or delete {root / TRAINING}",
        )
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RefusedInput(
            f"{existing} cannot be written to",
            "choose another folder with -o, or change its rights",
        )
    if make:
        with os_errors(f"write to {root}"):
            root.mkdir(parents=True, exist_ok=True)


def _strangers(root: Path, own: Collection[str]) -> list[str]:
    """What would be overwritten or removed some day in a folder that is no bundle."""
    if not root.is_dir() or has_manifest(root):
        return []
    names = sorted(path.name for path in root.iterdir())
    ours = (MANIFEST, *RECORDS)
    taken = [n for n in names if n in ours or n.startswith(("checkpoint.", "model."))]
    return [name for name in taken if name not in own]
