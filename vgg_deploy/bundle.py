"""A bundle: a folder of artifacts with ``manifest.json``.

Files enter whole or not at all; the manifest holds the SHA-256, size and parent of each and is
replaced atomically under a lock, so that two commands may write to one bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.errors import (
    DigestMismatch,
    RefusedInput,
    os_errors,
    unknown_choice,
)
from vgg_deploy.files import line_endings, sha256_of, staged, word
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
    notes_path,
    put_in_place,
    read_manifest,
    spare_line_endings,
    written,
)
from vgg_deploy.replacing import drop_records, refuse_existing, replaced
from vgg_deploy.spec import ModelCard


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

    def add(
        self,
        draft: Draft,
        write: Callable[[Path], None],
        notes: Callable[[str], object] | None = None,
    ) -> tuple[Bundle, Artifact]:
        """Let ``write`` make the file, then enter it into the manifest; an engine has ``notes``.

        They are made with the file's digest and lie beside it before the manifest names it.

        An artifact of the same name is replaced, and what was made from it is dropped: those
        files describe weights that are gone. ``DigestMismatch`` when another command has replaced
        what it was made from meanwhile.
        """
        target = self.root / draft.name
        with staged(target) as partial:
            artifact = written(partial, target, draft, write)
            moves = [(partial, target)]
            if notes is not None:
                moves.insert(0, (notes_path(partial), notes_path(target)))
                jsonio.save(notes_path(partial), notes(artifact.sha256))
            with locked(self.root):
                current = read_manifest(self.root)
                _require_parent(self.root, current, draft.parent, draft.name)
                manifest = entered(current, artifact)
                put_in_place(self.root, manifest, *moves)
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
                put_in_place(self.root, manifest, (partial, target))
        return Bundle(self.root, manifest)

    def golden_problem(self) -> str | None:
        """What is wrong with the golden vectors, or None; None too where there are none."""
        record = self.manifest.golden
        return problem_of(self.golden_folder, record) if record else None

    def check_golden(self) -> None:
        """Raise ``DigestMismatch`` for golden vectors that are not what the manifest says."""
        if problem := self.golden_problem():
            raise DigestMismatch(problem, f"make them again: vgg-deploy export {word(self.root)}")

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
            if size > artifact.size_bytes and (problem := line_endings(path, artifact.sha256)):
                return problem
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
            before = replaced(root)
            put_in_place(root, manifest, (partial, target))
            drop_files(root, before, manifest.artifacts)
            spare_line_endings(root)
            if replaces:
                drop_records(root, own)
    return Bundle(root, manifest), artifact
