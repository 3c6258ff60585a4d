"""What a stage writes: whole or not at all, and equal content in equal bytes."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stages.plumbing.csv_files import write_rows
from stages.plumbing.launch import first


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A scratch folder that becomes `out` when the block ends well, and vanishes when it does not.

    What stood at `out` before is replaced. The scratch folder lies beside `out` (`<out>.partial`, ignored by git and
    DVC), so the last step is a rename; one that a killed run left behind is cleared. Of several processes (torchrun)
    only the first one writes there, what the others write goes nowhere.
    """
    if not first():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)
        return
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if out.exists():
        shutil.rmtree(out)
    os.replace(partial, out)


@contextlib.contextmanager
def output_file(out: Path) -> Iterator[Path]:
    """Like `output_folder`, for a single file."""
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def write_table(path: Path, rows: list[dict[str, float]], columns: list[str] | None = None) -> None:
    """Rows of numbers as CSV; a column that a row lacks is empty there. Without `columns`, all that rows name."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    write_rows(path, [columns, *([f"{row[name]:.6g}" if name in row else "" for name in columns] for row in rows)])


def write_scores(path: Path, scores: dict) -> None:
    """Scores as JSON, every number to six digits, so that differences between two runs are about results."""
    write_json(path, json.loads(json.dumps(scores), parse_float=lambda digits: round(float(digits), 6)))


def write_json(path: Path, content: dict) -> None:
    """A small table that people may read, too: UTF-8, two blanks an indent."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
