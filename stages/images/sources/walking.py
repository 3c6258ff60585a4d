"""The image files below a folder, each once, in an order of its own."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from stages.images.sources.pictures import SUFFIXES
from stages.plumbing.errors import UserError


@dataclass
class Listing:
    """Paths are posix and relative to the folder walked; `others` counts files that are no images by extension."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: Counter = field(default_factory=Counter)
    repeated: int = 0  # links left out because they lead to what is there already


def walk(root: Path, only: Collection[str] | None = None) -> Listing:
    """What lies below `root`, or only in its entries of these names; sorted, hidden files and folders left out.

    Links are followed, but none to a folder that is read anyway or that holds `root`, and none to an image file that
    is read anyway: so a loop ends, and nothing comes twice. What stands in its own place goes before links to it.
    Raises UserError for a folder that may not be read.
    """
    found, links = Listing(), []
    regular: list[str] = []
    seen = {_identity(folder) for folder in (root.resolve(), *root.resolve().parents)}

    def descend(top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            for entry in entries(root / folder):
                if entry.name.startswith(".") or (folder == "" and only is not None and entry.name not in only):
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    links.append(name)
                elif entry.is_dir():
                    seen.add(_identity(root / name))
                    found.folders.append(name)
                    waiting.append(name)
                elif not _is_image(name):
                    found.others[os.path.splitext(name)[1].lower() or "no extension"] += 1
                elif entry.is_file():  # and no pipe, which would be waited at forever
                    regular.append(name)

    descend("")
    targets = {_identity(root / name) for name in regular} if links else set()
    found.images += regular
    while links:
        links.sort(reverse=True)
        name = links.pop()
        try:
            identity = _identity(root / name)
        except OSError:  # it leads nowhere: as an image it will be reported with those that cannot be read
            if _is_image(name):
                found.images.append(name)
            continue
        if identity in seen or identity in targets:
            found.repeated += 1
        elif os.path.isdir(root / name):
            seen.add(identity)
            found.folders.append(name)
            before = len(regular)
            descend(name)
            found.images += regular[before:]
        elif not _is_image(name):
            found.others[os.path.splitext(name)[1].lower() or "no extension"] += 1
        elif os.path.isfile(root / name):
            found.images.append(name)
    found.images.sort()
    found.folders.sort()
    return found


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def entries(folder: Path) -> list[os.DirEntry]:
    """What lies directly in a folder, sorted by name. Raises UserError if it may not be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); make it readable or move it away") from None
