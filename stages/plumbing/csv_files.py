"""Tables of texts as CSV: one writer and one reader for all of them, whatever bytes names of files hold.

Python's own csv module does not do: until 3.11.9 and 3.12.3 it leaves a carriage return without quotes, and then reads
two rows where one was written (python/cpython#67044). Names of files are bytes; those that are no UTF-8 come out as
they went in.

Cells are what they are, also where a spreadsheet would take one for a formula (=, +, - or @ in front). A sign put
before it would be part of the name for every program: predict --sort-into would not find the file. Quotes would not
help, since spreadsheets take them off. What may be cleaned is so before it gets here (`printing.py`, names.yaml).
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stages.plumbing.errors import UserError

# Blanks at the ends are safe as they are for this reader, but some others drop them.
NEEDS_QUOTES = re.compile(r'[,"\r\n]|\A\s|\s\Z')


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the header first. Equal rows give equal bytes, on every version of Python."""
    with open(path, "wb") as file:
        file.writelines(map(encode_row, rows))


def encode_row(cells: Sequence[object]) -> bytes:
    """A row as the bytes of its line, None as nothing.

    >>> encode_row(["cats\\r/1.jpg", 0.5, None])
    b'"cats\\r/1.jpg",0.5,\\n'
    """
    line = ",".join(map(_cell, cells)) or '""'  # an empty line would be no row
    return f"{line}\n".encode(errors="surrogateescape")


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows, the header first, one after the other. UserError unless there is one and all are as long as it is."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader, header = csv.reader(file, strict=True), None
        try:
            for row in reader:
                header = row if header is None else header
                if len(row) != len(header):
                    raise _broken(path, reader.line_num, f"{len(row)} cells below {len(header)} names of columns")
                yield row
        except csv.Error as error:
            raise _broken(path, reader.line_num, str(error)) from None
        if header is None:
            raise _broken(path, 1, "nothing, where the names of the columns are expected")


def read_records(path: Path, columns: Mapping[str, Callable[[str], object]]) -> Iterator[dict]:
    """The rows below the header, as dictionaries. UserError where the table is another one.

    columns: the names that the header has, and what makes a value of a cell, such as `int`.
    """
    for number, row in enumerate(read_rows(path)):
        if number == 0:
            if row != list(columns):
                raise _broken(path, 1, f"other columns than {', '.join(columns)}")
            continue
        try:
            yield {name: make(cell) for (name, make), cell in zip(columns.items(), row, strict=True)}
        except ValueError as error:
            raise UserError(f"{path}, row {number} below the header: {error}; have the table written again") from None


def _broken(path: Path, line: int, problem: str) -> UserError:
    return UserError(f"{path}, line {line}: {problem}; have the table written again")
