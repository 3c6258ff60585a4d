"""Names as people see them: those of files and folders, which may hold any bytes."""

import unicodedata
from collections.abc import Sequence

SHOWN = 5  # examples in a message
# Blanks of all widths (macOS puts one into the names of its screenshots), and what joins or parts letters in Persian
# and Hindi, and pictures in emoji. All else that Python calls unprintable moves text about, or is not there to be seen.
KEPT, JOINERS = "Zs", "\u200c\u200d"


def printable(name: str) -> str:
    """A name for people, on one line: bytes that are no UTF-8, line ends and controls become question marks."""
    return name if name.isprintable() else "".join(char if _is_seen(char) else "?" for char in name)


def _is_seen(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == KEPT


def told_apart(names: Sequence[str]) -> list[str]:
    """Names of classes for people: printable, without blanks and line ends around them, and none empty.

    What was different stays so: names that are in order are kept, and others that come to be alike are numbered.

    >>> told_apart(["cats", "cats\\r", "dogs\\r"])
    ['cats', 'cats (2)', 'dogs']
    """
    clean = [printable(name.strip()) or "?" for name in names]
    taken = {name for name, new in zip(names, clean, strict=True) if name == new}
    found = []
    for name, new in zip(names, clean, strict=True):
        choice, number = new, 1
        while name != new and choice in taken:
            number += 1
            choice = f"{new} ({number})"
        taken.add(choice)
        found.append(choice)
    return found


def examples(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are; safe to print whatever bytes they hold."""
    more = f", … ({len(names) - SHOWN:,} more)" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in names[:SHOWN]) + more
