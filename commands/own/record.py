"""What was asked for and measured the last time: of this machine, so neither git's nor DVC's."""

import json
from pathlib import Path

from commands.own.speed import Speed

RECORD = Path(".ckpt/own.json")


def recall(path: str) -> dict:
    """What was remembered of a folder; {} if nothing was."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if record.get("path") == path and set(record["speed"]) == set(Speed._fields) else {}


def remember(record: dict) -> None:
    """Keep it for the next time."""
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
