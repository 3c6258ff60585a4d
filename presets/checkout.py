"""The git checkout that a params file lies in: DVC needs one, and what is committed there can be gone back to."""

import subprocess
from pathlib import Path

from stages.plumbing.errors import UserError


def require_checkout(path: Path) -> None:
    """Raise UserError if DVC would not run beside this params file, because git is missing or knows no checkout."""
    try:
        found = _git(path, "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        raise UserError("git is not installed, and DVC needs it; on Debian: apt-get install git") from None
    if found.returncode:
        said = (_text(found.stderr).splitlines() or ["git gave no reason"])[0].removeprefix("fatal: ")
        raise UserError(
            f"{path.resolve().parent} is not a git checkout, which DVC needs ({said[:120]}); clone the repository (git "
            "clone), or make one here: git init && git add --all && git commit -m start"
        )


def committed(path: Path) -> bytes:
    """The params file as it is committed. UserError if it is not."""
    shown = _git(path, "show", f"HEAD:./{path.name}")
    if shown.returncode:
        raise UserError(f"{path} is not committed, so there is nothing to go back to: {_text(shown.stderr)}")
    return shown.stdout


def _git(path: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], cwd=path.resolve().parent, capture_output=True)


def _text(said: bytes) -> str:
    return said.decode(errors="replace").strip()
