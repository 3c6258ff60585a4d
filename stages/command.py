"""How a stage becomes a command: flags from its signature, outputs whole or not at all, errors in one line."""

import argparse
import contextlib
import csv
import hashlib
import inspect
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from stages import live
from stages.errors import UserError
from stages.params import read

SHELLS = {"sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "zsh"}


def run(stage: Callable, within: Callable[[Callable[[], None]], None] = lambda call: call()) -> None:
    """Run `stage` from the command line, its call made by `within` (say, in several processes).

    Every parameter annotated `Path` becomes a required flag (`out` → `--out`; one with a default is optional); the
    parameter `params` is read from `--params` (params.yaml) against its annotation, a pydantic model. A UserError ends
    the process with one line on stderr and exit code 1; anything else is a fault of ours and shows its traceback.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage.__name__}", description=inspect.getdoc(stage))
    schema = None
    for name, parameter in inspect.signature(stage).parameters.items():
        if name == "params":
            schema = parameter.annotation
            parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
        else:
            optional = parameter.default is not inspect.Parameter.empty
            default = parameter.default if optional else None
            parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=not optional, default=default)
    arguments = vars(parser.parse_args())
    _stop_with_parent()
    start = time.monotonic()
    try:
        if schema is not None:
            arguments["params"] = read(schema, arguments["params"])
        within(lambda: stage(**arguments))
    except UserError as error:
        message = str(error)
    except FileNotFoundError as error:
        message = f"{error.filename}: no such file; run the stages before this one (dvc repro does)"
    except KeyboardInterrupt:
        message = "interrupted; the next run goes on from its last finished epoch, if it was training"
    else:
        return live.took(stage.__name__, time.monotonic() - start)
    if not _first():
        # Of several processes (torchrun) all meet the same error, and the first says it: torchrun then ends the others
        # while they wait here. What only this process has met it says after all.
        time.sleep(5)
    sys.exit(f"{stage.__name__}: {message}")


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A scratch folder that becomes `out` when the block ends well, and vanishes when it does not.

    What stood at `out` before is replaced. The scratch folder lies beside `out` (`<out>.partial`, ignored by git and
    DVC), so the last step is a rename; one that a killed run left behind is cleared. Of several processes (torchrun)
    only the first one writes there, what the others write goes nowhere.
    """
    if not _first():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere)
        return
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if out.exists():
        shutil.rmtree(out)
    os.replace(partial, out)


@contextlib.contextmanager
def output_file(out: Path) -> Iterator[Path]:
    """Like `output_folder`, for a single file."""
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def write_table(path: Path, rows: list[dict[str, float]], columns: list[str] | None = None) -> None:
    """Rows of numbers as CSV; a column that a row lacks is empty there. Without `columns`, all that rows name."""
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


def fingerprint(params: BaseModel, *inputs: Path) -> str:
    """What an unfinished run may be continued by: a hash of its params, its inputs' bytes, the code and torch.

    Code is every module of this project that the process has imported. Of several processes only the first one needs
    it, and reads the inputs.
    """
    if not _first():
        return ""
    digest = hashlib.sha256(params.model_dump_json().encode())
    digest.update(version("torch").encode())
    modules = {name: module for name, module in sys.modules.items() if name.startswith("stages.") or name == "__main__"}
    code = {Path(module.__file__) for module in modules.values() if getattr(module, "__file__", None)}
    for path in [*sorted(code), *(file for folder in inputs for file in sorted(folder.rglob("*")))]:
        if path.is_file():
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _stop_with_parent() -> None:
    """Under DVC, end with it: a stage whose `dvc repro` was killed would go on beside the next one.

    Outside DVC a stage may well outlive the shell that started it (nohup), so it is left alone.
    """
    if "DVC_STAGE" not in os.environ:
        return
    lineage = _lineage()

    def watch() -> None:
        while _lineage() == lineage:
            time.sleep(0.5)
        try:
            print("dvc is gone: stopping; the next `dvc repro` continues from the last finished epoch", file=sys.stderr)
        finally:  # whoever read stderr may be gone too
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _first() -> bool:
    """Whether this is the only process of its stage, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _lineage() -> list[int]:
    """The process ids from the parent up to the first one that is no shell: under DVC, that one is DVC.

    Some shells (Debian's sh) stay between DVC and the command that they run for it, and outlive DVC; so does torchrun,
    where a stage has started itself under it. Where there is no /proc to look them up in, the parent alone.
    """
    lineage = [os.getppid()]
    with contextlib.suppress(OSError):
        torchrun = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        while lineage[-1] == torchrun or Path(f"/proc/{lineage[-1]}/comm").read_text().strip() in SHELLS:
            after_name = Path(f"/proc/{lineage[-1]}/stat").read_text().rpartition(")")[2]
            lineage.append(int(after_name.split()[1]))
    return lineage
