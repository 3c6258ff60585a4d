"""CSV tables: any text comes back as it went in, equal rows are equal bytes, and what is broken is told by its line."""

import csv
import io
import os
import random

import pytest

from stages.images.duplicates import read_duplicates
from stages.images.index import count_skipped, read_index
from stages.plumbing.csv_files import encode_row, read_records, read_rows, write_rows
from stages.plumbing.errors import UserError

ODD = [
    "a\rb",
    "\r",
    "a\r\nb",
    "a\nb",
    'a"b',
    '"',
    ",",
    " a",
    "a ",
    "\t",
    "a\tb",
    "\x1b[31m",
    "\u2028",
    "\u202ea",
    "\x85",
]
ODD += ["=1+1", "+1", "-1", "@a", "", "NA", "ü", os.fsdecode(b"caf\xe9 \xff"), "\x1c", "\ufeff"]


def test_any_text_comes_back_as_it_went_in(tmp_path):
    pick = random.Random(0)
    rows = [["first", "second"], *([name, name] for name in ODD)]
    rows += [[pick.choice(ODD) + pick.choice(ODD), pick.choice(ODD)] for _ in range(300)]
    write_rows(tmp_path / "t.csv", rows)
    assert list(read_rows(tmp_path / "t.csv")) == rows
    found = list(read_records(tmp_path / "t.csv", {"first": str, "second": str}))
    assert [list(row.values()) for row in found] == rows[1:]
    write_rows(tmp_path / "one.csv", [["only"], [""], ["a"]])
    assert list(read_rows(tmp_path / "one.csv")) == [["only"], [""], ["a"]]


def test_ordinary_rows_are_what_pythons_module_writes():
    for row in (
        ["train", 0, "cat/1.jpg"],
        ["a b", 0.1, None, 1e-05, True],
        ["a,b", 'say "hi"', "ü", "two\nlines"],
        [""],
    ):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row)
        assert encode_row(row) == text.getvalue().encode()


def test_what_ends_or_surrounds_a_cell_is_in_quotes():
    assert encode_row(["cats\r/1.jpg", " a", "a\t", "a b"]) == b'"cats\r/1.jpg"," a","a\t",a b\n'


def test_formulas_stay_since_programs_read_the_names_back():
    assert encode_row(["=1+1.jpg", "+1", "-dash.jpg", "@home"]) == b"=1+1.jpg,+1,-dash.jpg,@home\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: nothing, where the names of the columns are expected"),
        ("a,b\n1\n", "line 2: 1 cells below 2 names of columns"),
        ("a,b\n1,2\n\n", "line 3: 0 cells below 2"),
        ("a,b\n1,x\ry\n", "line 3: 1 cells below 2"),  # as tables with carriage returns were once written
        ('a,b\n1,"x\n', "line 2: unexpected end of data"),
        ("a,c\n1,2\n", "line 1: other columns than a, b"),
        ("a,b\n1,2\nx,2\n", "row 2 below the header: invalid literal for int"),
    ],
)
def test_what_is_broken_is_told(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content.encode())
    with pytest.raises(UserError, match=f"t.csv, {message}"):
        list(read_records(tmp_path / "t.csv", {"a": int, "b": str}))


def test_tables_beside_the_images(tmp_path):
    assert read_index(tmp_path) is None
    write_rows(tmp_path / "index.csv", [["split", "row", "path"], ["test", 0, "a\r.png"], ["test", 1, "b.png"]])
    assert read_index(tmp_path) == {("test", 0): "a\r.png", ("test", 1): "b.png"}
    for rows in ([["test", 1, "b.png"]], [["test", 0, "a.png"], ["test", 0, "b.png"]], [["test", -1, "a.png"]]):
        write_rows(tmp_path / "index.csv", [["split", "row", "path"], *rows])
        with pytest.raises(UserError, match=r"index\.csv: rows are missing or come twice"):
            read_index(tmp_path)
    write_rows(tmp_path / "skipped.csv", [["path", "reason"], ["a\rb", "empty file"]])
    assert count_skipped(tmp_path) == 1
    (tmp_path / "duplicates.csv").write_text("split,row,of_split,of_row,kind\ntrain,1,train,first,exact\n")
    with pytest.raises(UserError, match=r"duplicates\.csv, row 1 below the header"):
        read_duplicates(tmp_path)
