"""What was asked for."""

import os
from pathlib import Path
from typing import NamedTuple

from commands.own.plan import SMALLEST
from commands.own.survey import require_folder
from stages.plumbing.errors import UserError


class Request(NamedTuple):
    """What was asked for; None where it was not."""

    path: Path
    clusters: int
    size: int | None
    hours: float | None


def understand(images: str, clusters: str, size: str, hours: str) -> Request:
    """What was asked for in words; "" where nothing was. UserError for what cannot be meant."""
    if not images:
        raise UserError(
            "IMAGES is missing: CLUSTERS, SIZE and HOURS are for a folder of your own, as in make repro "
            "IMAGES=~/photos CLUSTERS=12; without them make repro runs params.yaml as it is"
        )
    path = Path(os.path.abspath(os.path.expanduser(images)))
    require_folder(path)
    if not clusters:
        raise UserError(
            "CLUSTERS is missing: how many groups to look for, say CLUSTERS=12; a few more than you expect, since "
            "groups can be merged afterwards, by names.yaml"
        )
    number = _number("CLUSTERS", clusters, int, 2, 100_000)
    side = _number("SIZE", size, int, SMALLEST, 1024) if size else None
    return Request(path, number, side, _number("HOURS", hours, float, 0.01, 1000) if hours else None)


def _number(name: str, text: str, kind: type, low: float, high: float) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} = {text!r}: expected {what} from {low:,} to {high:,}")
    return value
