"""Which files of this project are the code of the running stage: part of what its checkpoints belong to."""

import sys
from pathlib import Path

_remembered: set[Path] = set()


def remember() -> None:
    """Take what is imported now for the stage's code, whatever is imported later."""
    _remembered.update(_imported())


def files() -> list[Path]:
    """The files of the stage's code, sorted."""
    return sorted(_remembered or _imported())


def _imported() -> set[Path]:
    modules = [module for name, module in sys.modules.items() if name.startswith("stages.") or name == "__main__"]
    return {Path(module.__file__) for module in modules if getattr(module, "__file__", None)}
