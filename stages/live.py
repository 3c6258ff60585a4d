"""What a run says of itself while it goes on, in a folder that git ignores; it cannot change a result.

dvclive/plots/<phase>/<term>.tsv    the history of a training as it grows, in DVCLive's form (columns `step` and the
                                    term), so that editors that show DVC experiments plot it epoch by epoch;
                                    dvclive/dvc.yaml declares them to DVC
dvclive/seconds.json                how long each stage took when it last ran here

LIVE names another folder, or none: LIVE= switches this off.
"""

import json
import os
import shutil
from pathlib import Path


def record(phase: str, history: list[dict[str, float]]) -> None:
    """Write the epochs so far, a row each with `epoch` and terms. Other files of the phase are of an older training."""
    if (live := _folder()) is None:
        return
    folder = live / "plots" / phase.replace(", ", "-")
    if len(history) == 1:
        shutil.rmtree(folder, ignore_errors=True)
    for term in dict.fromkeys(name for row in history for name in row if name != "epoch"):
        lines = [f"{row['epoch']}\t{row[term]:.6g}\n" for row in history if term in row]
        _write(folder / f"{term}.tsv", f"step\t{term}\n{''.join(lines)}")


def took(stage: str, seconds: float) -> None:
    """Note how long a stage took."""
    if (live := _folder()) is not None:
        _write(live / "seconds.json", json.dumps(seconds_by_stage() | {stage: round(seconds, 1)}, indent=2) + "\n")


def seconds_by_stage() -> dict[str, float]:
    """How long each stage took when it last ran here, as far as that is known."""
    try:
        return json.loads((_folder() / "seconds.json").read_text())
    except (OSError, ValueError, TypeError):  # never written, broken off, switched off
        return {}


def _folder() -> Path | None:
    """Where to write; of several processes (torchrun) only the first one does."""
    name = os.environ.get("LIVE", "dvclive")
    return Path(name) if name and os.environ.get("RANK", "0") == "0" else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
