"""How a stage becomes a command: flags from its signature, outputs whole or not at all, errors in one line."""

import argparse
import contextlib
import csv
import gc
import hashlib
import importlib
import inspect
import json
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

from stages.plumbing import live
from stages.plumbing.errors import UserError
from stages.plumbing.launch import first
from stages.plumbing.params import read

_own_code: list[Path] = []  # of the stage that this process runs, before checks import the code of others
SHELLS = {"sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "zsh"}


def run(stage: Callable, within: Callable[[Callable[[], None]], None] = lambda call: call()) -> None:
    """Run `stage` from the command line, its call made by `within` (say, in several processes).

    Every parameter annotated `Path` becomes a required flag (`out` → `--out`; one with a default is optional); the
    parameter `params` is read from `--params` (params.yaml) against its annotation, a pydantic model. A UserError ends
    the process with one line on stderr and exit code 1; anything else is a fault of ours and shows its traceback.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {_module(stage)}", description=inspect.getdoc(stage))
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
    start, speaks = time.monotonic(), True
    try:
        speaks = first()
        if speaks and os.environ.get("DVC_STAGE") == stage.__name__:
            _begin(stage.__name__, arguments)
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
        live.took(stage.__name__, time.monotonic() - start)
        gc.freeze()  # or Python looks through all of torch once more before it ends, which takes a second
        return
    if not speaks:
        # Of several processes (torchrun) all meet the same error, and the first says it: torchrun then ends the others
        # while they wait here. What only this process has met it says after all.
        time.sleep(5)
    sys.exit(f"{stage.__name__}: {message}")


def _module(stage: Callable) -> str:
    """The name by which Python was asked to run a stage."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else stage.__module__


def _begin(stage: str, arguments: dict[str, Path]) -> None:
    """Under DVC: say which stage of how many this is, and refuse what this stage or a later one cannot do."""
    if not (position := live.position(stage, Path("dvc.yaml"))):
        return
    print(position, flush=True)
    _own_code.extend(_project_code())
    # By name instead of by import: a check cannot change a result, so no stage shall run again for an edit of it.
    check = importlib.import_module("commands.preflight").check_before
    check(stage, arguments.get("params", Path("params.yaml")), arguments.get("images", Path("data/images")))


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A scratch folder that becomes `out` when the block ends well, and vanishes when it does not.

    What stood at `out` before is replaced. The scratch folder lies beside `out` (`<out>.partial`, ignored by git and
    DVC), so the last step is a rename; one that a killed run left behind is cleared. Of several processes (torchrun)
    only the first one writes there, what the others write goes nowhere.
    """
    if not first():
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


def write_json(path: Path, content: dict) -> None:
    """A small table that people may read, too: UTF-8, two blanks an indent."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fingerprint(params: BaseModel, *inputs: Path) -> str:
    """What an unfinished run may be continued by: a hash of its params, its inputs' bytes, the code and torch.

    Code is every module of this project that the stage has imported. Of several processes only the first one needs it,
    and reads the inputs.
    """
    if not first():
        return ""
    digest = hashlib.sha256(params.model_dump_json().encode())
    digest.update(version("torch").encode())
    code = sorted(_own_code or _project_code())
    for path in [*code, *(file for folder in inputs for file in sorted(folder.rglob("*")))]:
        if path.is_file():
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _project_code() -> set[Path]:
    """The files of this project that are imported now."""
    modules = [module for name, module in sys.modules.items() if name.startswith("stages.") or name == "__main__"]
    return {Path(module.__file__) for module in modules if getattr(module, "__file__", None)}


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
