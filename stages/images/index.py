"""Which image is of which file, and which files are none that can be read: two tables beside the images."""

from collections import Counter
from pathlib import Path

from stages.plumbing.csv_files import read_records
from stages.plumbing.errors import UserError

INDEX, SKIPPED = "index.csv", "skipped.csv"
COLUMNS = {"split": str, "row": int, "path": str}
WHY = {"path": str, "reason": str}


def read_index(folder: Path) -> dict[tuple[str, int], str] | None:
    """The file of every image, by split and row, in a folder of images; None where the data were no files.

    Paths are relative to data.path. UserError if the table is broken, or if rows of a split are missing or come twice.
    """
    if not (path := folder / INDEX).exists():
        return None
    rows = [((row["split"], row["row"]), row["path"]) for row in read_records(path, COLUMNS)]
    files = dict(rows)
    ends = Counter(split for split, _ in files)
    if len(files) < len(rows) or any(not 0 <= row < ends[split] for split, row in files):
        raise UserError(f"{path}: rows are missing or come twice; run dvc repro --force download")
    return files


def count_skipped(folder: Path) -> int:
    """How many files could not be read. UserError if the table is broken."""
    return sum(1 for _ in read_records(folder / SKIPPED, WHY))
