"""Checkpoints of unfinished training: found again only by a run of the same params, inputs and code.

They lie outside the stages' outputs, because DVC deletes those before a stage runs.
"""

import fcntl
import hashlib
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from stages.plumbing import code
from stages.plumbing.errors import UserError
from stages.training import processes

KEPT = 3  # unfinished runs that are kept per stage, the newest
LOCK_PATIENCE = 15.0  # seconds to wait for another run of the same stage to end


class Checkpoint:
    """The folder `<root>/<stage>-<fingerprint>/` of one unfinished run, one file per phase of its training.

    Holding it is exclusive: a second run of the same work waits a moment, then ends with a UserError. When the block
    ends well, the work is done and all of it is removed, so write the outputs inside. Of several processes the first
    one holds, saves and loads; for the others there is nothing here.

    >>> with Checkpoint(Path(".ckpt"), "pretext", fingerprint) as checkpoint:
    ...     fit(..., checkpoint=checkpoint)
    ...     ...  # write the outputs
    """

    def __init__(self, root: Path, stage: str, fingerprint: str):
        self.folder = root / f"{stage}-{fingerprint}"
        self.stage = stage

    def __enter__(self) -> "Checkpoint":
        if not processes.first():
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        older = sorted(self.folder.parent.glob(f"{self.stage}-*"), key=lambda path: path.stat().st_mtime)
        for path in older[:-KEPT]:
            if path != self.folder:
                shutil.rmtree(path, ignore_errors=True)
        deadline = time.monotonic() + LOCK_PATIENCE
        while not self._hold():
            if time.monotonic() > deadline:
                raise UserError(f"another run of {self.stage} is at work on this; wait for it or stop it")
            time.sleep(0.2)
        return self

    def _hold(self) -> bool:
        """Take the lock, for as long as the run lasts, or say that another run has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115 (held beyond this method)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run that held it may have removed the folder meanwhile, and this lock with it.
            if os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self._lock.name)):
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        self._lock.close()
        return False

    def __exit__(self, kind: type | None, *_: object) -> None:
        if not processes.first():
            return
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def load(self, phase: str) -> dict[str, Any] | None:
        """What `save` wrote last for this phase, or None."""
        path = self.folder / f"{phase}.pt"
        if not processes.first() or not path.exists():
            return None
        return torch.load(path, map_location="cpu", weights_only=True)

    def save(self, phase: str, state: dict[str, Any]) -> None:
        """Write the state (tensors, numbers, texts, lists, dictionaries), replacing the last one in a single step."""
        if not processes.first():
            return
        path = self.folder / f"{phase}.pt"
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)


def fingerprint(params: BaseModel, *inputs: Path) -> str:
    """What an unfinished run may be continued by: a hash of its params, its inputs' bytes, the code and torch.

    Code is every module of this project that the stage has imported. Of several processes only the first one needs it,
    and reads the inputs.
    """
    if not processes.first():
        return ""
    digest = hashlib.sha256(params.model_dump_json().encode())
    digest.update(version("torch").encode())
    for path in [*code.files(), *(file for folder in inputs for file in sorted(folder.rglob("*")))]:
        if path.is_file():
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
