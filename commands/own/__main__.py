"""A folder of your own, prepared for `dvc repro`: `python -m commands.own ~/photos --clusters 12`.

Looks through the folder, chooses size, network and epochs by what this machine does in `--hours` (3), writes them to
params.yaml (comments stay), says what a run will take, and has the pictures read (`dvc repro download`). The same call
again changes nothing; one with other clusters changes these alone. Another size or other hours choose anew.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml.comments import CommentedMap

from commands import preflight
from commands.own import plan
from commands.own.folder import Found, Read, look, read_result, refuse
from presets.checkout import require_checkout
from presets.overlay import DEFAULT, load, merge, overlay, refusal, save
from stages.plumbing import live
from stages.plumbing.errors import UserError
from stages.training.devices import device

PRESET = "folder"
HOURS = 3.0
UNREADABLE = 0.1  # share of pictures that may be damaged: among a few dozen of one's own, one is soon more than 1 %
RECORD = Path(".ckpt/own.json")  # what was asked and measured: of this machine, so neither git's nor DVC's
IMAGES = Path("data/images")
SHOWN = 8  # changes that are printed one by one


class Wish(NamedTuple):
    """What was asked for; None where it was not."""

    path: Path
    clusters: int
    size: int | None
    hours: float | None


def own(wish: Wish, file: Path) -> None:
    """Prepare params.yaml and data/images for a folder. UserError for bad input; then params.yaml is as it was."""
    refuse(wish.path)
    require_checkout(file)
    preflight.check_params(file)  # a mistake in it is better told before it is changed
    before, params = file.read_bytes(), load(file)
    data = params["data"]
    if reason := refusal(PRESET, data["name"]):
        raise UserError(reason)
    same = data["name"] == PRESET and data["path"] is not None and _is_same(wish.path, data["path"])
    last = _last(data["path"]) if same else {}

    found = look(wish.path, data["test_share"])
    if data["limit"] is not None:
        found = found._replace(counts={split: min(count, data["limit"]) for split, count in found.counts.items()})
    if wish.clusters > found.counts["train"]:
        raise UserError(
            f"CLUSTERS = {wish.clusters}, but only {found.counts['train']:,} of the {found.total:,} pictures are there "
            "to learn from; lower it to the number of groups that you expect"
        )
    _say_found(wish.path, found)
    asked = (wish.size is not None and wish.size != data["image_size"]) or (
        wish.hours is not None and wish.hours != last.get("hours")
    )
    keep = same and not asked and 0.5 <= found.total / last.get("images", found.total) <= 2
    hours = wish.hours or last.get("hours", HOURS)
    wish = wish._replace(size=wish.size or last.get("asked"))
    lines, speed = _kept(wish, params, found, last) if keep else _chosen(wish, params, found, hours, same, file)
    content = _plain(params)
    content["data"]["image_size"] = content["data"]["image_size"] or found.short_side
    _say_plan(found, content, speed, wish.clusters, None if keep else hours)
    if not keep:
        _check_disk(found, content, speed, wish.clusters)
    if lines:
        save(params, file)
        shown = f": {'; '.join(lines)}" if len(lines) <= SHOWN else f" (git diff {file})"
        print(f"{file}: {len(lines)} value{'s' * (len(lines) > 1)} changed{shown}", flush=True)
    try:
        _download(force=found.listing != last.get("listing"))
    except BaseException:
        file.write_bytes(before)
        raise
    result = read_result(IMAGES)
    _say_read(result)
    try:
        if not keep:
            _fit_to(result, params, wish.clusters, file)
        preflight.check_counts(file, IMAGES)
    except BaseException:
        file.write_bytes(before)
        raise
    live.expect(plan.by_stage(found, content, speed, wish.clusters))
    seen = {"images": found.total, "listing": found.listing}
    built = {"size": content["data"]["image_size"], "backbone": content["pretext"]["backbone"]}
    _remember(
        {"path": params["data"]["path"], "hours": hours, "asked": wish.size, **seen, **built, "speed": speed._asdict()}
    )


def _fit_to(result: Read, params: CommentedMap, clusters: int, file: Path) -> None:
    """Bring what follows from the number of pictures to those that could be read: the plan counted files."""
    p, train = params["pretext"], result.counts["train"]
    wanted = plan.from_counts(result.counts, clusters, p["epochs"], min(p["batch_size"], train))
    if lines := overlay(params, wanted):
        save(params, file)
        print(f"{file}: {'; '.join(lines)}, for {train:,} pictures to learn from could be read")


def _is_same(path: Path, other: str) -> bool:
    other = Path(other).expanduser()
    return path == other or (other.exists() and path.samefile(other))


def _plain(params: CommentedMap) -> dict:
    """Params as nested dictionaries of Python's own types, as the stages read them."""
    return json.loads(json.dumps(params))


def _kept(wish: Wish, params: CommentedMap, found: Found, last: dict) -> tuple[list[str], plan.Speed]:
    """Only the clusters are new. Returns a line per change, and the speed of what was chosen before."""
    lines = overlay(params, {"clusters": wish.clusters})
    content = _plain(params)
    size, backbone = content["data"]["image_size"] or found.short_side, content["pretext"]["backbone"]
    print(
        f"Settings   kept as they were for this folder: {size} pixels, network {backbone}, "
        f"{content['pretext']['epochs']} epochs; another HOURS or SIZE chooses anew"
    )
    if last and (last["size"], last["backbone"]) == (size, backbone):
        return lines, plan.Speed(**last["speed"])
    batch = min(content["pretext"]["batch_size"], found.counts["train"])
    return lines, plan.measure(size, backbone, found.channels, wish.clusters, content, batch)


def _chosen(
    wish: Wish, params: CommentedMap, found: Found, hours: float, same: bool, file: Path
) -> tuple[list[str], plan.Speed]:
    """The preset and what suits the folder and this machine. Returns a line per change, and the speed of the choice."""
    before = _plain(params)
    if not same:
        merge(PRESET, params, file)
    share = max(params["data"]["unreadable"], UNREADABLE)
    path = before["data"]["path"] if same else str(wish.path)  # a folder may have several names
    overlay(params, {"clusters": wish.clusters, "data": {"path": path, "unreadable": share}})
    print(f"Machine    {plan.machine()}; measuring its speed ...", flush=True)
    choice = plan.choose(found, wish.clusters, wish.size, hours, _plain(params))
    overlay(params, choice.changes)
    p, label = params["pretext"], params["selflabel"]["epochs"]
    print(f"Chosen     {params['data']['image_size']} pixels: {choice.why}")
    print(
        f"           network {p['backbone']}; epochs: {p['epochs']} of SimCLR, {params['scan']['epochs']} of SCAN, "
        f"{label} of self-labeling{'' if label else f' (it takes {plan.FEW} pictures or more)'}"
    )
    return overlay(before, _plain(params)), choice.speed


def _check_disk(found: Found, content: dict, speed: plan.Speed, clusters: int) -> None:
    needed, free = plan.disk(found, content, speed, clusters), shutil.disk_usage(Path.cwd()).free
    if needed > free:
        size = content["data"]["image_size"]
        half = plan.disk(found, plan.merged(content, {"data": {"image_size": size // 2}}), speed, clusters)
        raise UserError(
            f"the run needs {_bytes(needed)} of disk in {Path.cwd()}, and {_bytes(free)} are free; make room, or give "
            f"a smaller SIZE than {size} (half of it needs {_bytes(half)})"
        )


def _download(force: bool) -> None:
    """Read the pictures, through DVC. UserError if that fails; the stage has then said why."""
    print("Reading    all pictures, by dvc repro download:", flush=True)
    # Stages are started as `python`, which has to be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    # DVC does not look into the folder, so that it has to be told when something in there has changed.
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else []), "download"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace", env=env) as process:
        shown = True
        for line in process.stdout:
            shown = shown and not line.startswith("To track the changes")  # its advice on git, which the run repeats
            if shown and line.strip():
                print(f"           {line}", end="", flush=True)
    if process.returncode:
        raise UserError("the pictures could not be read, see above; params.yaml is as it was")


def _last(path: str) -> dict:
    """What was remembered of a folder; {} if nothing was."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if record.get("path") == path and set(record["speed"]) == set(plan.Speed._fields) else {}


def _remember(record: dict) -> None:
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _say_found(path: Path, found: Found) -> None:
    splits = f"{found.counts['train']:,} to learn from, {found.counts['test']:,} set aside to test"
    if extra := found.counts.get("unlabeled"):
        splits += f", {extra:,} more for the pretext only"
    print(f"Pictures   {found.total:,} in {path}: {splits}")
    if found.total < plan.FEW:
        print(f"           That is few; groups found in less than {plan.FEW} pictures are a matter of luck.")
    order = sorted(found.sides, key=lambda pair: (pair[0] * pair[1], pair))
    wide, high = (sorted(side)[len(order) // 2] for side in zip(*order))
    (w, h), (W, H) = order[0], order[-1]
    of = "" if len(order) >= found.total - 1 else f" (of a sample of {len(order):,})"
    sizes = (
        f"all {w} × {h}" if order[0] == order[-1] else f"median {wide} × {high}, smallest {w} × {h}, largest {W} × {H}"
    )
    print(f"Sizes      {sizes} pixels{of}, {'grey' if found.channels == 1 else 'colour'}")
    labels = f"{found.classes:,} class folders, for the scores only" if found.classes else "none, and none are needed"
    print(f"Labels     {labels}", flush=True)


def _say_plan(found: Found, content: dict, speed: plan.Speed, clusters: int, hours: float | None) -> None:
    parts = plan.seconds(found, content, speed, clusters)
    total = sum(parts.values())
    listed = ", ".join(f"{name} {_duration(value)}" for name, value in parts.items() if value >= 1)
    print(f"Time       about {_duration(total)} for a whole run: {listed}")
    if hours is not None and total > 3600 * hours:
        print(
            f"           That is more than HOURS={hours:g}, even with the cheapest network and few epochs; "
            "an interrupted run goes on with dvc repro"
        )
    needed, free = plan.memory(found, content, speed, clusters), plan.free_memory()
    where = " on the GPU" if device().type == "cuda" else ""
    print(f"Memory     about {_bytes(needed)} of {_bytes(free)} free{where}")
    if needed > free:
        print("           That is too much: the system may end the run. A smaller SIZE takes less.")
    disk, room = plan.disk(found, content, speed, clusters), shutil.disk_usage(Path.cwd()).free
    print(f"Disk       about {_bytes(disk)} of {_bytes(room)} free, copies in DVC's cache included", flush=True)


def _say_read(result: Read) -> None:
    counts = " + ".join(f"{count:,} {split}" for split, count in result.counts.items())
    print(f"Read       {counts}; {result.skipped:,} unreadable{_see(result.skipped, 'skipped.csv')}")
    copies = result.exact + result.near
    print(f"Duplicates {result.exact:,} exact, {result.near:,} near{_see(copies, 'duplicates.csv')}", flush=True)


def _see(count: int, name: str) -> str:
    return f", listed in {IMAGES / name}" if count else ""


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _bytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def wished(images: str, clusters: str, size: str, hours: str) -> Wish:
    """What was asked for in words; "" where nothing was. UserError for what cannot be meant."""
    if not images:
        raise UserError(
            "IMAGES is missing: CLUSTERS, SIZE and HOURS are for a folder of your own, as in make repro "
            "IMAGES=~/photos CLUSTERS=12; without them make repro runs params.yaml as it is"
        )
    path = Path(os.path.abspath(os.path.expanduser(images)))
    refuse(path)
    if not clusters:
        raise UserError(
            "CLUSTERS is missing: how many groups to look for, say CLUSTERS=12; a rough guess of how many you expect, "
            "rather some more, since groups can be merged afterwards by names.yaml"
        )
    number = _number("CLUSTERS", clusters, int, 2, 100_000)
    side = _number("SIZE", size, int, plan.SMALLEST, 1024) if size else None
    return Wish(path, number, side, _number("HOURS", hours, float, 0.01, 1000) if hours else None)


def _number(name: str, text: str, kind: type, low: float, high: float) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} = {text!r}: expected {what} from {low:,} to {high:,}")
    return value


def main() -> None:
    """Prepare a folder as the command line says; exit code 1 and one line where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m commands.own", description=__doc__, formatter_class=_Raw)
    parser.add_argument("images", nargs="?", default="", help="the folder (make: IMAGES)")
    parser.add_argument("--clusters", default="", help="how many groups to look for, rather too many (CLUSTERS)")
    parser.add_argument("--size", default="", help="side of the pictures in pixels; default: what suits (SIZE)")
    parser.add_argument("--hours", default="", help=f"how long all may take; default: {HOURS:g} (HOURS)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    a = parser.parse_args()
    try:
        own(wished(a.images, a.clusters, a.size, a.hours), a.params)
    except UserError as error:
        sys.exit(f"own: {error}")
    except KeyboardInterrupt:
        sys.exit("own: interrupted; params.yaml is as it was")
    print(f"Ready: dvc repro runs the rest. Back to the committed params: python -m presets {DEFAULT}", flush=True)


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
