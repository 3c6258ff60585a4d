"""The pipeline in slices of time, without DVC: `python -m commands.slices --minutes 9`, again and again.

For machines that are lent for minutes, or have no DVC and no network: a batch queue, a shared GPU. Runs the commands of
dvc.yaml in order and skips what is done. When the minutes are over it interrupts the stage at work, says where it
stands and exits with 75 (try again); training goes on from its last finished epoch the next time. Exit code 0: all is
done, and reports/runs/<name>.json holds params, scores and the seconds of every stage.

All state lies inside the project: carry data/, reports/, .ckpt/ and .slices/ along from machine to machine. A stage is
done if command, params, code and the bytes of inputs and outputs are those of the time it ended, so that neither an
edit nor a `dvc repro` in between goes unnoticed. Needs what the stages need, and PyYAML; nothing of DVC.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import yaml

STATE = Path(".slices")
TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
PATIENCE = 60  # seconds for a stage to end once it is interrupted; a checkpoint may be on its way to the disk


class Stage(NamedTuple):
    """A stage of dvc.yaml."""

    name: str
    command: list[str]
    params: dict
    deps: list[str]
    outs: list[str]


class Hashes:
    """SHA-256 of files and folders; a file of the same size and time as before is not read again."""

    def __init__(self, path: Path):
        self.path = path
        self.known = json.loads(path.read_text()) if path.exists() else {}

    def file(self, path: Path) -> str:
        """Of one file's bytes."""
        status = path.stat()
        seen = [status.st_size, status.st_mtime_ns]
        if self.known.get(str(path), [None])[:2] != seen:
            with open(path, "rb") as file:
                self.known[str(path)] = [*seen, hashlib.file_digest(file, "sha256").hexdigest()]
        return self.known[str(path)][2]

    def of(self, name: str) -> str | None:
        """Of a file, or of a folder's names and bytes; None where there is neither."""
        root = Path(name)
        if root.is_file():
            return self.file(root)
        if not root.is_dir():
            return None
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
        listing = [[path.relative_to(root).as_posix(), self.file(path)] for path in files]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def save(self) -> None:
        """Remember them for the next time."""
        _write(self.path, self.known)


def read_stages(pipeline: Path, params_file: Path) -> list[Stage]:
    """The stages in the order of the file, which has to be one in which they can run."""
    params = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    stages = []
    for name, entry in yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"].items():
        command = shlex.split(entry["cmd"])
        command[0] = sys.executable if command[0] == "python" else command[0]
        if params_file != Path("params.yaml"):
            command += ["--params", str(params_file)]
        read = {key: _leaf(params, key) for key in entry.get("params", [])}
        outs = [_path(out) for kind in ("outs", "metrics", "plots") for out in entry.get(kind, [])]
        stages.append(Stage(name, command, read, [_path(dep) for dep in entry["deps"]], outs))
    return stages


def _leaf(params: dict, key: str) -> object:
    for part in key.split("."):
        params = params[part]
    return params


def _path(entry: str | dict) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def identity(stage: Stage, hashes: Hashes) -> str:
    """A hash of all that decides what a stage makes."""
    content = [stage.command[1:], stage.params, {dep: hashes.of(dep) for dep in stage.deps}]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stamp(stage: Stage) -> dict:
    """What is remembered of a stage's last time: `identity`, `seconds` so far, and `outs` once it has ended."""
    path = STATE / f"{stage.name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, content: object) -> None:
    """Replace a file in one step: these are written when time is short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def run(stage: Stage, deadline: float, hashes: Hashes) -> bool:
    """Do what is left of a stage; False if the time is over before it ends. Ends the program if the stage fails."""
    key, last = identity(stage, hashes), stamp(stage)
    same, ended = last.get("identity") == key, "outs" in last
    if same and ended and last["outs"] == {out: hashes.of(out) for out in stage.outs}:
        print(f"{stage.name}: done", flush=True)
        return True
    if time.monotonic() >= deadline:
        return False
    print(f"{stage.name}: {shlex.join(['python', *stage.command[1:]])}", flush=True)
    for out in stage.outs:  # as DVC does, so that nothing of another run is taken for this one's
        shutil.rmtree(out) if Path(out).is_dir() else Path(out).unlink(missing_ok=True)
    before, start = last["seconds"] if same and not ended else 0.0, time.monotonic()
    code = _within(stage, deadline)
    last = {"identity": key, "seconds": round(before + time.monotonic() - start, 1)}
    if code == 0:
        last["outs"] = {out: hashes.of(out) for out in stage.outs}
    _write(STATE / f"{stage.name}.json", last)
    if code:
        sys.exit(f"{stage.name} failed with exit code {code}")
    return code == 0


def _within(stage: Stage, deadline: float) -> int | None:
    """Run the stage's command until the deadline; its exit code, None if it was interrupted."""
    # With DVC_STAGE a stage ends when the process that started it is gone, instead of going on beside the next slice.
    environment = {**os.environ, "DVC_STAGE": stage.name}
    # In a session of its own a Ctrl-C reaches it once, from here.
    with subprocess.Popen(stage.command, env=environment, start_new_session=True) as process:
        try:
            return process.wait(timeout=max(deadline - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()  # not SIGINT: what nohup or a shell's & has started never hears that one
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
    return 0 if process.returncode == 0 else None  # it may have ended well while it was interrupted


def write_result(path: Path, stages: list[Stage], params_file: Path) -> None:
    """The run in one file: params, scores, seconds of every stage in all its slices, device and versions."""
    import torch

    baselines = {file.stem: json.loads(file.read_text()) for file in map(Path, _outs(stages, "reports/baselines"))}
    result = {
        "protocol": yaml.safe_load(params_file.read_text(encoding="utf-8")),
        "metrics": json.loads(Path("reports/metrics.json").read_text()),
        **({"baselines": baselines} if baselines else {}),
        "seconds": {stage.name: stamp(stage)["seconds"] for stage in stages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "devices": torch.cuda.device_count() or os.cpu_count(),
        "torch": version("torch"),
    }
    _write(path, result)


def _outs(stages: list[Stage], folder: str) -> list[str]:
    return [out for stage in stages for out in stage.outs if out.startswith(folder)]


def _processor() -> str:
    """The name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def stop(*_: object) -> None:
    """A queue that takes the machine back says so with SIGTERM."""
    raise KeyboardInterrupt


def main() -> int:
    """Run until all is done or the minutes are over; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m commands.slices", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; default: never")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    parser.add_argument("--until", metavar="stage", help="the last stage to run; default: all")
    parser.add_argument("--baselines", action="store_true", help="then those of baselines/dvc.yaml, too")
    parser.add_argument("--name", help="of the result, reports/runs/<name>.json; default: data.name")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    stages = read_stages(Path("dvc.yaml"), arguments.params)
    names = [stage.name for stage in stages]
    if arguments.until not in (None, *names):
        parser.error(f"--until {arguments.until}: there is no such stage; there are {', '.join(names)}")
    if arguments.until:
        stages = stages[: names.index(arguments.until) + 1]
    if arguments.baselines:
        stages += read_stages(Path("baselines/dvc.yaml"), arguments.params)

    signal.signal(signal.SIGTERM, stop)
    hashes = Hashes(STATE / "hashes.json")
    for number, stage in enumerate(stages):
        try:
            finished = run(stage, deadline, hashes)
        except KeyboardInterrupt:
            finished = False
        hashes.save()
        if not finished:
            print(f"slices: stopped in {stage.name}, {number} of {len(stages)} stages done; run it again to go on")
            return TRY_AGAIN
    if "evaluate" in [stage.name for stage in stages]:
        name = arguments.name or yaml.safe_load(arguments.params.read_text(encoding="utf-8"))["data"]["name"]
        path = Path("reports/runs") / f"{name}.json"
        write_result(path, stages, arguments.params)
        print(f"slices: all {len(stages)} stages done; see {path}")
    else:
        print(f"slices: all {len(stages)} stages until {stages[-1].name} done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
