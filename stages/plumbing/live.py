"""What a run says of itself while it goes on, in a folder that git ignores; it cannot change a result.

dvclive/plots/<phase>/<term>.tsv    the history of a training as it grows, in DVCLive's form (columns `step` and the
                                    term), so that editors that show DVC experiments plot it epoch by epoch;
                                    dvclive/dvc.yaml declares them to DVC
dvclive/seconds.json                how long each stage took when it last ran here
dvclive/expected.json               how long each stage is going to take, where somebody has estimated it

LIVE names another folder, or none: LIVE= switches this off.
"""

import json
import os
import shutil
from pathlib import Path

import yaml

from stages.plumbing.launch import first


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
    return _read("seconds.json")


def expect(seconds: dict[str, float]) -> None:
    """Note how long each stage is going to take, in their order."""
    if (live := _folder()) is not None:
        _write(live / "expected.json", json.dumps({name: round(value, 1) for name, value in seconds.items()}) + "\n")


def position(stage: str, pipeline: Path) -> str | None:
    """Where a stage stands among those of dvc.yaml: its number, how many there are, what it does. None if nowhere."""
    try:
        stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
        return f"{stage}: {list(stages).index(stage) + 1} of {len(stages)} · {stages[stage]['desc']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def rest_of_run(stage: str) -> float | None:
    """Seconds that the stages after this one are going to take: as estimated, or as the last time; None if unknown."""
    expected = _read("expected.json") or seconds_by_stage()
    names = list(expected)  # in the order in which they run
    return sum(list(expected.values())[names.index(stage) + 1 :]) if stage in names[:-1] else None


def _read(name: str) -> dict[str, float]:
    """Seconds by stage; {} where the file was never written, broke off or is no such table, or LIVE is off."""
    try:
        content = json.loads((_folder() / name).read_text(encoding="utf-8"))
        return {str(stage): float(seconds) for stage, seconds in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _folder() -> Path | None:
    """Where to write; of several processes (torchrun) only the first one does."""
    name = os.environ.get("LIVE", "dvclive")
    return Path(name) if name and first() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
