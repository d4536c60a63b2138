"""The class folders of a folder, and the images below each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from vgg_deploy.data.ours import is_bundle, is_ours
from vgg_deploy.errors import RefusedInput, from_os_error
from vgg_deploy.files import shown

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"
)  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_UNSEEN = "__MACOSX"  # what macOS packs beside the files of an archive


@dataclass(frozen=True, kw_only=True)
class Aside:
    """What is seen beside the images: other files by their ending, and lines for people.

    Only told are empty class folders, too, unless ``strict``: there they are refused.
    """

    strict: bool = True
    others: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)


class NoClasses(RefusedInput):
    """Fewer than two folders with images."""


def classes_in(folder: Path, aside: Aside) -> dict[str, list[Path]]:
    """Images by class, classes in the order of their names.

    ``NoClasses`` for fewer than two, else ``RefusedInput`` for a class folder without images.
    """
    found: dict[str, list[Path]] = {}
    others: dict[str, Counter[str]] = {}
    for path in folders_in(folder):
        images, rest = images_below(path)
        if is_ours(path) or (not images and is_bundle(path)):
            aside.remarks.append(f"{shown(path)} is of vgg-deploy itself: not a class")
            continue
        aside.others.update(rest)
        _require_name(path)
        found[path.name], others[path.name] = images, rest
    _refuse_bare(folder, found, others, strict=aside.strict)
    for name in [name for name, images in found.items() if not images]:
        aside.remarks.append(f"the class folder {shown(folder / name)} is empty: left out")
        del found[name]
    if len(found) < 2:
        what = f"only one class, {next(iter(found))}" if found else "no class folders with images"
        raise NoClasses(
            f"{shown(folder)} has {what}", "put the images of each class into a folder of its own"
        )
    return found


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, by name."""
    return sorted(p for p in folder.iterdir() if _seen(p.name) and p.is_dir())


def require_folder(root: Path) -> None:
    """Refuse a data set that is not there, is packed, or is another file."""
    if root.is_dir():
        return
    if root.is_file() and root.suffix.lower() in _ARCHIVES:
        raise RefusedInput(
            f"data set {shown(root)} is an archive",
            "unpack it first and give the folder with one per class",
        )
    raise RefusedInput(f"data set {shown(root)} is not a folder", "give one with one per class")


def data_set_in(root: Path) -> Path | None:
    """The folder of class folders or splits that is all ``root`` holds, as unpacked archives have.

    None where there is no such one: the images of a class may lie in folders, too.
    """
    folder = root
    while len(inside := [p for p in folders_in(folder) if has_images(p) and not is_ours(p)]) == 1:
        folder = inside[0]
        if any(map(_is_image, folder.iterdir())):
            return None
    return folder if inside and folder != root else None


def images_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images anywhere below a folder, in the order of their names, and other files' endings."""
    files = _below(folder)
    rest = (p for p in files if not _is_image(p))
    endings = Counter(shown(p.suffix.lower()) or "without an ending" for p in rest)
    return [p for p in files if _is_image(p)], endings


def has_images(folder: Path) -> bool:
    """Whether there are images anywhere below a folder."""
    return any(map(_is_image, _below(folder)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _require_name(path: Path) -> None:
    if shown(path.name) != path.name:
        raise RefusedInput(
            f"the name of the class folder {shown(path)} is not UTF-8", "give it another name"
        )


def _refuse_bare(
    folder: Path,
    found: Mapping[str, Sequence[Path]],
    others: Mapping[str, Mapping[str, int]],
    *,
    strict: bool,
) -> None:
    """Refuse a folder without images that holds other files, and if ``strict`` one without any."""
    refusal = RefusedInput if sum(map(bool, found.values())) > 1 else NoClasses
    for name in (name for name, images in found.items() if not images):
        if others[name]:
            raise refusal(
                f"{folder / name} holds no image that can be read, only {listed(others[name])}",
                "convert them to JPEG or PNG, or move the folder away; read are "
                f"{' '.join(SUFFIXES)}",
            )
        if strict:
            raise refusal(
                f"the class folder {folder / name} is empty",
                "put its images there, or remove the folder",
            )


def listed(endings: Mapping[str, int]) -> str:
    """Numbers of files by their ending: ``20 .heic, 1 .txt``."""
    ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {ending}" for ending, count in ordered[:5])


def _seen(name: str) -> bool:
    """Whether a file or folder is not hidden, as the small copies are that photo programs keep."""
    return not name.startswith(".") and name != _UNSEEN


def _below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden; each folder once, linked ones after real ones.

    A link to a folder that this one lies in leads nowhere new and is not followed, and what a
    training of ours wrote is not looked at.
    """
    found: list[Path] = []
    seen = {_identity(parent) for parent in folder.resolve().parents}
    starts = [folder]
    while starts:
        for place, folders, files in os.walk(starts.pop(0), onerror=_refuse):
            if (identity := _identity(Path(place))) in seen or is_ours(Path(place)):
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = filter(_seen, folders)
            found += [Path(place, name) for name in filter(_seen, files)]
            starts += [p for name in sorted(folders) if (p := Path(place, name)).is_symlink()]
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise from_os_error(error, f"read {shown(os.fsdecode(error.filename))}") from error
