"""Image files into a folder for each group, as links, copies or moved; and moved ones back to where they were."""

import errno
import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.plumbing.csv_files import encode_row, read_records, write_rows
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file
from stages.plumbing.printing import printable

How = Literal["link", "copy", "move"]
UNSURE, UNDO, PARTIAL = "unsure", "undo.csv", ".partial"
HEADER = ["from", "to"]  # absolute; relative to the folder of undo.csv
LONGEST = 255  # bytes of a file's name, on nearly every disk
# What Windows and some network disks do not take as a name, whatever is appended after a dot.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


@dataclass
class Placed:
    """How many files were placed, were there already, and stayed where they are for being links (of moves only)."""

    placed: int = 0
    there: int = 0
    links: int = 0


def folder_names(names: Sequence[str]) -> dict[str, str]:
    """A folder for each group, by its name: that name, made safe, and no two alike, nor like those with a meaning.

    >>> folder_names(["coat", "a/b", ".."])
    {'coat': 'coat', 'a/b': 'a_b', '..': '_'}
    """
    folders: dict[str, str] = {}
    taken = {UNSURE, UNDO}
    for name in dict.fromkeys(names):
        folder, number = _safe(name), 1
        while (numbered := _numbered(folder, number)).lower() in taken:  # some disks do not tell A from a
            number += 1
        taken.add(numbered.lower())
        folders[name] = numbered
    return folders


def _safe(name: str) -> str:
    clean = re.sub(r'[/\\:*?"<>|]', "_", printable(name)).strip()  # a question mark also stands for what is not seen
    stripped = clean.strip(".").strip()
    if clean.startswith(".") or not stripped:
        stripped = f"_{stripped}"  # neither hidden nor a way up
    if stripped.split(".")[0].strip().lower() in _DEVICES:
        stripped = f"_{stripped}"
    return _cut(stripped, LONGEST // 2).strip()


def _numbered(name: str, number: int) -> str:
    """The name itself for 1, and `name (2).jpg` and so on, cut to what a disk takes."""
    stem, suffix = os.path.splitext(name)
    ending = f" ({number}){suffix}"
    return name if number == 1 else _cut(stem, LONGEST - len(os.fsencode(ending))) + ending


def _cut(text: str, length: int) -> str:
    return text if len(os.fsencode(text)) <= length else os.fsencode(text)[:length].decode(errors="ignore")


def sort_files(rows: Iterable[dict[str, str]], names: Sequence[str], into: Path, how: How) -> Placed:
    """Place every file of a table of predictions into `into/<group>/`, unsure ones into `into/unsure/`.

    Nothing is ever overwritten: a file whose name is taken gets ` (2)` and so on. A link or copy that an earlier run
    made is not made again. Files that could not be read are left alone; so are links, where files are moved. Moves
    are noted in into/undo.csv, each before it is made. UserError for what the disk refuses; what is done by then stays.
    """
    folders = folder_names(names)
    sorter, count = _Sorter(into, how), Placed()
    try:
        into.mkdir(parents=True, exist_ok=True)
        with _undo_file(into / UNDO) if how == "move" else nullcontext(lambda source, target: None) as note:
            for row in rows:
                if not row["error"]:
                    folder = UNSURE if row["unsure"] == "true" else folders[row["name"]]
                    _place(os.path.abspath(row["path"]), folder, sorter, note, count)
    except (OSError, KeyboardInterrupt) as error:
        why = "interrupted"
        if isinstance(error, OSError):
            why = f"{printable(str(error.filename or into))}: {error.strerror or error}"
            why += "; disks that know no links need --copy" if how == "link" else ""
        undo = f", as {into / UNDO} has it" if how == "move" else ""
        raise UserError(f"{why}; {count.placed:,} files were sorted by then{undo}") from None
    return count


class _Sorter:
    """Finds the place of a file in a folder."""

    def __init__(self, into: Path, how: How):
        self.into, self.how = into, how
        self.linked: dict[str, set[str]] = {}  # what links in a folder lead to already
        self.fresh: dict[str, bool] = {}  # whether this run made the folder
        self.last: dict[tuple[str, str], int] = {}  # the last number that a name got: thousands may share a name

    def target(self, source: str, folder: str) -> str | None:
        """Where a file goes, or None if it is there."""
        base = self.into.absolute() / folder
        if folder not in self.fresh:
            self.fresh[folder] = not base.exists()
            base.mkdir(exist_ok=True)
            with os.scandir(base) as entries:
                self.linked[folder] = {os.readlink(entry.path) for entry in entries if entry.is_symlink()}
        if self.how == "link" and source in self.linked[folder]:
            return None
        name = os.path.basename(source)
        compare = self.how == "copy" and not self.fresh[folder]
        number = 1 if compare else self.last.get((folder, name), 0) + 1
        while os.path.lexists(target := str(base / _numbered(name, number))):
            if compare and os.path.isfile(target) and filecmp.cmp(source, target, shallow=False):
                return None
            number += 1
        if number > 1:
            self.last[folder, name] = number
        return target


def _link(source: str, target: str) -> None:
    os.symlink(source, target)


def _copy(source: str, target: str) -> None:
    """A copy that appears at once, when it is complete."""
    handle, partial = tempfile.mkstemp(PARTIAL, ".", os.path.dirname(target))
    os.close(handle)
    try:
        shutil.copy2(source, partial)
        os.rename(partial, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _move(source: str, target: str) -> None:
    """To the same disk in one step, to another one by a copy."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        try:
            os.unlink(source)
        except OSError:
            os.unlink(target)  # what cannot be taken away there shall not be in both places
            raise


PLACE = {"link": _link, "copy": _copy, "move": _move}


def _place(source: str, folder: str, sorter: _Sorter, note: Callable[[str, str], None], count: Placed) -> None:
    """Bring one file to its place in a folder, noted before, and count what became of it."""
    if sorter.how == "move" and os.path.islink(source):
        count.links += 1
    elif (target := sorter.target(source, folder)) is None:
        count.there += 1
    else:
        note(source, target)
        PLACE[sorter.how](source, target)
        count.placed += 1


@contextmanager
def _undo_file(path: Path) -> Iterator[Callable[[str, str], None]]:
    """A function that notes a move at the end of undo.csv, on disk before it returns, or not at all."""
    # No buffers in between: a line that does not fit on the disk any more must not be left there in half.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def write(*fields: str) -> None:
        line, size = encode_row(fields), os.fstat(handle).st_size
        try:
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            os.ftruncate(handle, size)
            raise

    try:
        if os.fstat(handle).st_size == 0:
            write(*HEADER)
        yield lambda source, target: write(source, os.path.relpath(target, path.absolute().parent))
    finally:
        os.close(handle)


def undo(path: Path) -> tuple[int, list[str]]:
    """Move back what an undo.csv lists, last moves first; return how many files, and why others were not moved.

    Where something stands at the old place again, or nothing at the new one, the line stays in the file; the file and
    emptied folders go. UserError if it is no such file.
    """
    moves = _read_moves(path)
    base = path.absolute().parent
    back, left, reasons = 0, [], []
    for old, new in reversed(moves):
        moved = os.path.join(base, new)
        if not os.path.lexists(moved) and os.path.lexists(old):
            continue  # noted, and interrupted before it was moved; or moved back by hand
        try:
            _move_back(moved, old)
            back += 1
        except OSError as error:
            left.append([old, new])
            reasons.append(f"{printable(moved)}: {error.strerror}")
    if left:
        with output_file(path) as partial:
            write_rows(partial, [HEADER, *reversed(left)])
    else:
        path.unlink()
    for folder in {os.path.dirname(os.path.join(base, new)) for _, new in moves}:
        _clear(folder)
    return back, reasons


def _read_moves(path: Path) -> list[list[str]]:
    """The old and the new place of every move in an undo.csv, see HEADER."""
    try:
        moves = [[*move.values()] for move in read_records(path, dict.fromkeys(HEADER, str))]
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; --undo takes the {UNDO} in the folder that files were moved to"
        ) from None
    except (OSError, UserError) as error:
        raise UserError(f"{path}: not the {UNDO} of a move ({getattr(error, 'strerror', None) or error})") from None
    if not all(os.path.isabs(old) for old, _ in moves):
        raise UserError(f"{path}: not the {UNDO} of a move; files come from absolute paths")
    return moves


def _move_back(moved: str, old: str) -> None:
    if os.path.lexists(old):
        raise FileExistsError(errno.EEXIST, "something stands at its old place")
    os.makedirs(os.path.dirname(old), exist_ok=True)
    _move(moved, old)


def _clear(folder: str) -> None:
    """Remove a folder that files were moved out of, with copies that broke off; not if it holds anything else."""
    with suppress(OSError):
        for broken_off in Path(folder).glob(f".*{PARTIAL}"):
            broken_off.unlink()
        os.rmdir(folder)
