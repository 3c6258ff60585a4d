"""Names for people: on one line and all to be seen, and no two classes become one by it."""

import os

import pytest

from stages.plumbing.printing import examples, printable, told_apart


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cats\r", "cats?"),
        ("a\tb\nc\x1b[31m\x7f\x85", "a?b?c?[31m??"),
        ("\u202egnp.exe\u2028\u2029\u200e\ufeff", "?gnp.exe????"),
        (os.fsdecode(b"caf\xe9"), "caf?"),
        ("\ud800", "?"),
        ("Käfer, 猫 & 🐈.png", "Käfer, 猫 & 🐈.png"),
        ("10.00\u202fAM\xa0.png", "10.00\u202fAM\xa0.png"),  # of a screenshot on macOS
        ("می\u200cخواهم 👨\u200d👩\u200d👧", "می\u200cخواهم 👨\u200d👩\u200d👧"),
    ],
)
def test_what_cannot_be_seen_becomes_a_question_mark(name, shown):
    assert printable(name) == shown
    shown.encode()


def test_classes_that_come_to_be_alike_stay_apart():
    ordinary = ["T-shirt/top", "a b", "=1", "ü", "cat?", "cat? (2)"]
    assert told_apart(ordinary) == ordinary
    assert told_apart(["cats\r", "cats", " cats"]) == ["cats (2)", "cats", "cats (3)"]
    assert told_apart(["cat\x01", "cat\x02", *ordinary]) == ["cat? (3)", "cat? (4)", *ordinary]
    assert told_apart(["\r", " ", "?"]) == ["? (2)", "? (3)", "?"]  # none without a name


def test_examples_are_few():
    assert examples([f"{number}\r" for number in range(7)]) == "0?, 1?, 2?, 3?, 4?, … (2 more)"
