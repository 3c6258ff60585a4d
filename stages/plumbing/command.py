"""How a stage becomes a command: flags from its signature, errors in one line, and an end when DVC ends."""

import argparse
import contextlib
import gc
import importlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from stages.plumbing import code, live
from stages.plumbing.errors import UserError
from stages.plumbing.launch import launch
from stages.plumbing.params import read
from stages.plumbing.printing import printable

SHELLS = {"sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "zsh"}


def run(stage: Callable, within: Callable[[Callable[[], None]], None] = lambda call: call()) -> None:
    """Run `stage` from the command line, its call made by `within` (say, in several processes).

    Every parameter annotated `Path` becomes a flag (`out` → `--out`) with the parameter's default; one without a
    default is required. The parameter `params` is read from `--params` (params.yaml) against its annotation, a pydantic
    model. A UserError ends the process with one line on stderr and exit code 1; anything else is a fault of ours and
    shows its traceback.
    """
    schema, arguments = _arguments(stage)
    _stop_with_parent()
    start, speaks = time.monotonic(), True
    try:
        speaks = launch().rank == 0
        # Not again by the processes that a stage starts of itself: then the environment has their number.
        if launch().count == 1 and os.environ.get("DVC_STAGE") == stage.__name__:
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
    sys.exit(printable(f"{stage.__name__}: {message}"))  # names of files in it may hold line ends


def _arguments(stage: Callable) -> tuple[type | None, dict[str, Path]]:
    """The schema of the stage's params, None if it reads none, and what the command line says of its paths."""
    parser = argparse.ArgumentParser(prog=f"python -m {_module(stage)}", description=inspect.getdoc(stage))
    schema = None
    for name, parameter in inspect.signature(stage).parameters.items():
        default = Path("params.yaml") if name == "params" else parameter.default
        if name == "params":
            schema = parameter.annotation
        flag = f"--{name.replace('_', '-')}"
        if default is inspect.Parameter.empty:
            parser.add_argument(flag, type=path, required=True, metavar="PATH")
        else:
            usual = f"default: {default}" if default else None
            parser.add_argument(flag, type=path, default=default, metavar="PATH", help=usual)
    return schema, vars(parser.parse_args())


def path(text: str) -> Path:
    """What a flag that takes a path makes of a text: ~ is the home folder, and nothing is no path."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found nothing")
    return Path(text).expanduser()


def _module(stage: Callable) -> str:
    """The name by which Python was asked to run a stage."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else stage.__module__


def _begin(stage: str, arguments: dict[str, Path]) -> None:
    """Under DVC: say which stage of how many this is, and refuse what this stage or a later one cannot do."""
    if not (position := live.position(stage, Path("dvc.yaml"))):
        return
    print(position, flush=True)
    code.remember()  # before the checks import that of other stages
    # By name instead of by import: a check cannot change a result, so no stage shall run again for an edit of it.
    check = importlib.import_module("commands.preflight").check_before
    check(stage, arguments.get("params", Path("params.yaml")), arguments.get("images", Path("data/images")))


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
