"""The image files below a folder, each once, in an order of its own."""

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from stages.images.sources.pictures import SUFFIXES, format_of
from stages.plumbing.errors import UserError

# Endings that mean something else, so that such files are not opened. A look at a file takes one open and one read:
# nothing for a few, but on a drive across a network a millisecond each, and trees of code, data or films are large.
# Raw photographs are here although many begin like a TIFF, for what can be read of them is at best a thumbnail.
_OTHERS = """
    txt text log md rst rtf tex bib pdf doc docx odt pages xls xlsx ods numbers ppt pptx odp key eml msg epub mobi
    csv tsv json jsonl xml yaml yml toml ini inf cfg conf plist sql db sqlite sqlite3 parquet feather arrow h5 hdf5
    npy npz pkl pickle pt pth onnx safetensors mat htm html xhtml css url lnk webloc torrent
    py pyc pyi ipynb js mjs ts tsx jsx c cc cpp cxx h hpp cs java class go rs rb php sh bat cmd ps1 pl lua r swift kt
    o a so dylib dll exe msi lib ttf otf woff woff2
    mp4 m4v mov qt avi mkv webm wmv flv mpg mpeg mts m2ts 3gp 3g2 ogv vob lrv
    mp3 m4a wav flac aac ogg oga opus wma aif aiff mid midi amr
    zip tar gz tgz bz2 xz zst 7z rar iso dmg jar apk deb rpm crdownload
    cr2 cr3 crw nef nrw arw srf sr2 dng orf rw2 raf pef srw x3f 3fr iiq psd psb xcf kra ai eps ps svg svgz ico icns
    xmp aae thm
"""
OTHERS = frozenset(f".{name}" for name in _OTHERS.split())
HIDDEN = "hidden"
REPEATED = "links to what is there already"
DEAD = "links that lead nowhere"
SPECIAL = "pipes or devices"
NO_SUFFIX = "no extension"
SHOWN = 6  # kinds of files in a message


@dataclass
class Listing:
    """Paths are posix and relative to the folder walked; `left_out` counts what else lies there, by kind.

    A kind is an extension (".txt") or one of the names above. A hidden folder counts as one, with all that is in it.
    """

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)


def walk(root: Path, only: Collection[str] | None = None) -> Listing:
    """What lies below `root`, or only in its entries of these names; sorted, hidden files and folders left out.

    Links are followed, but none to a folder that is read anyway or that holds `root`, and none to an image file that
    is read anyway: so a loop ends, and nothing comes twice. What stands in its own place goes before links to it.
    Raises UserError for a folder that may not be read.
    """
    found, links = Listing(), []
    regular: list[str] = []
    seen = {_identity(folder) for folder in (root.resolve(), *root.resolve().parents)}

    def take(name: str, is_file: bool, images: list[str]) -> None:
        if not is_file:  # a pipe would be waited at forever
            found.left_out[SPECIAL] += 1
        elif is_image(root / name):
            images.append(name)
        else:
            found.left_out[_kind(name)] += 1

    def descend(top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            for entry in entries(root / folder):
                if folder == "" and only is not None and entry.name not in only:
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):  # ._name, too, which holds what macOS notes of a file, and no picture
                    found.left_out[HIDDEN] += 1
                elif entry.is_symlink():
                    links.append(name)
                elif entry.is_dir():
                    seen.add(_identity(root / name))
                    found.folders.append(name)
                    waiting.append(name)
                else:
                    take(name, entry.is_file(), regular)

    descend("")
    targets = {_identity(root / name) for name in regular} if links else set()
    found.images += regular
    while links:
        links.sort(reverse=True)
        name = links.pop()
        try:
            identity = _identity(root / name)
        except OSError:  # it leads nowhere: as an image it will be reported with those that cannot be read
            if is_image(root / name):
                found.images.append(name)
            else:
                found.left_out[DEAD] += 1
            continue
        if identity in seen or identity in targets:
            found.left_out[REPEATED] += 1
        elif os.path.isdir(root / name):
            seen.add(identity)
            found.folders.append(name)
            before = len(regular)
            descend(name)
            found.images += regular[before:]
        else:
            take(name, os.path.isfile(root / name), found.images)
    found.images.sort()
    found.folders.sort()
    return found


def is_image(path: Path) -> bool:
    """Whether to read a file as an image: by its extension, or by its first bytes where that says nothing."""
    suffix = os.path.splitext(path.name)[1].lower()
    if suffix in SUFFIXES or suffix in OTHERS:
        return suffix in SUFFIXES
    try:
        return path.is_file() and format_of(path) is not None
    except OSError:  # such as one that may not be read: without a hint that it is an image, it is none
        return False


def say(left_out: Counter) -> str:
    """What was left out as a part of a sentence, "; left out: 3 .txt, 2 hidden"; empty if it was nothing."""
    if not left_out:
        return ""
    kinds = [f"{count:,} {kind}" for kind, count in left_out.most_common(SHOWN)]
    more = left_out.total() - sum(count for _, count in left_out.most_common(SHOWN))
    return f"; left out: {', '.join(kinds)}{f' and {more:,} of other kinds' if more else ''}"


def _kind(name: str) -> str:
    """The extension, but for what only looks like one: `at 10.15.32`, `Mr. Smith`."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if suffix in OTHERS or re.fullmatch(r"\.[a-z]\w{,9}", suffix) else NO_SUFFIX


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
