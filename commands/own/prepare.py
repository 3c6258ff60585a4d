"""params.yaml and data/images prepared for a folder of pictures."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from commands import preflight
from commands.own import estimate, plan
from commands.own.download import IMAGES, Read, download, read_result
from commands.own.machine import describe
from commands.own.record import recall, remember
from commands.own.request import Request
from commands.own.speed import Speed, measure
from commands.own.summary import in_bytes, say_plan, say_read, say_survey
from commands.own.survey import Survey, look, require_folder
from presets.checkout import require_checkout
from presets.overlay import load, merge, overlay, refusal, save
from stages.plumbing import live
from stages.plumbing.errors import UserError

PRESET = "folder"
HOURS = 3.0
UNREADABLE = 0.1  # share of pictures that may be damaged: among a few dozen of one's own, one is soon more than 1 %
SHOWN = 8  # changes that are printed one by one


def own(request: Request, file: Path) -> None:
    """Prepare params.yaml and data/images for a folder. UserError for bad input; then params.yaml is as it was."""
    require_folder(request.path)
    require_checkout(file)
    preflight.check_params(file)  # a mistake in it is better told before it is changed
    params = load(file)
    data = params["data"]
    if reason := refusal(PRESET, data["name"]):
        raise UserError(reason)
    same = data["name"] == PRESET and data["path"] is not None and _is_same(request.path, data["path"])
    last = recall(data["path"]) if same else {}
    survey = _survey(request, data)
    keep = same and not _is_anew(request, survey, data, last)
    request = request._replace(size=request.size or last.get("asked"), hours=request.hours or last.get("hours", HOURS))
    if keep:
        lines, speed = _keep(request.clusters, params, survey, last)
    else:
        lines, speed = _choose(request, params, survey, same, file)
    content = _plain(params)
    content["data"]["image_size"] = content["data"]["image_size"] or survey.short_side
    say_plan(survey, content, speed, None if keep else request.hours)
    if not keep:
        _check_disk(survey, content, speed)
    with _restored_on_error(file):
        if lines:
            save(params, file)
            shown = f": {'; '.join(lines)}" if len(lines) <= SHOWN else f" (git diff {file})"
            print(f"{file}: {len(lines)} value{'s' * (len(lines) > 1)} changed{shown}", flush=True)
        download(force=survey.listing != last.get("listing"))
        result = read_result(IMAGES)
        say_read(result)
        if not keep:
            _fit_to(result, params, request.clusters, file)
        preflight.check_numbers(file, IMAGES)
    live.expect(estimate.by_stage(survey, content, speed))
    asked = {"path": params["data"]["path"], "hours": request.hours, "asked": request.size}
    seen = {"images": survey.total, "listing": survey.listing}
    built = {"size": content["data"]["image_size"], "backbone": content["pretext"]["backbone"]}
    remember({**asked, **seen, **built, "speed": speed._asdict()})


@contextlib.contextmanager
def _restored_on_error(file: Path) -> Iterator[None]:
    """Put a file back as it is now if the block fails."""
    before = file.read_bytes()
    try:
        yield
    except BaseException:
        file.write_bytes(before)
        raise


def _survey(request: Request, data: CommentedMap) -> Survey:
    """What lies in the folder, as far as data.limit lets it count. UserError if clusters outnumber pictures."""
    survey = look(request.path, data["test_share"])
    if data["limit"] is not None:
        survey = survey._replace(counts={split: min(count, data["limit"]) for split, count in survey.counts.items()})
    if request.clusters > survey.counts["train"]:
        raise UserError(
            f"CLUSTERS = {request.clusters}, but only {survey.counts['train']:,} of the {survey.total:,} pictures are "
            "there to learn from; lower it to the number of groups that you expect"
        )
    say_survey(request.path, survey)
    return survey


def _is_same(path: Path, other: str) -> bool:
    other = Path(other).expanduser()
    return path == other or (other.exists() and path.samefile(other))


def _is_anew(request: Request, survey: Survey, data: CommentedMap, last: dict) -> bool:
    """Whether another size or other hours are asked for, or the folder has grown or shrunk to twice or half."""
    size = request.size is not None and request.size != data["image_size"]
    hours = request.hours is not None and request.hours != last.get("hours")
    return size or hours or not 0.5 <= survey.total / last.get("images", survey.total) <= 2


def _plain(params: CommentedMap) -> dict:
    """Params as nested dictionaries of Python's own types, as the stages read them."""
    return json.loads(json.dumps(params))


def _keep(clusters: int, params: CommentedMap, survey: Survey, last: dict) -> tuple[list[str], Speed]:
    """Only the clusters are new. Returns a line per change, and the speed of what was chosen before."""
    lines = overlay(params, {"clusters": clusters})
    content = _plain(params)
    size, backbone = content["data"]["image_size"] or survey.short_side, content["pretext"]["backbone"]
    print(
        f"Settings   kept as they were for this folder: {size} pixels, network {backbone}, "
        f"{content['pretext']['epochs']} epochs; another HOURS or SIZE chooses anew"
    )
    if last and (last["size"], last["backbone"]) == (size, backbone):
        return lines, Speed(**last["speed"])
    batch = min(content["pretext"]["batch_size"], survey.counts["train"])
    return lines, measure(size, backbone, survey.channels, content, batch)


def _choose(request: Request, params: CommentedMap, survey: Survey, same: bool, file: Path) -> tuple[list[str], Speed]:
    """The preset and what suits the folder and this machine. Returns a line per change, and the speed of the choice."""
    before = _plain(params)
    if not same:
        merge(PRESET, params, file)
    share = max(params["data"]["unreadable"], UNREADABLE)
    path = before["data"]["path"] if same else str(request.path)  # a folder may have several names
    overlay(params, {"clusters": request.clusters, "data": {"path": path, "unreadable": share}})
    print(f"Machine    {describe()}; measuring its speed ...", flush=True)
    choice = plan.choose(survey, request.size, request.hours, _plain(params))
    overlay(params, choice.changes)
    p, label = params["pretext"], params["selflabel"]["epochs"]
    print(f"Chosen     {params['data']['image_size']} pixels: {choice.why}")
    print(
        f"           network {p['backbone']}; epochs: {p['epochs']} of SimCLR, {params['scan']['epochs']} of SCAN, "
        f"{label} of self-labeling{'' if label else f' (it takes {plan.FEW} pictures or more)'}"
    )
    return overlay(before, _plain(params)), choice.speed


def _check_disk(survey: Survey, content: dict, speed: Speed) -> None:
    """Raise UserError unless a run has room."""
    needed, free = estimate.disk(survey, content, speed), shutil.disk_usage(Path.cwd()).free
    if needed > free:
        size = content["data"]["image_size"]
        half = estimate.disk(survey, plan.merged(content, {"data": {"image_size": size // 2}}), speed)
        raise UserError(
            f"the run needs {in_bytes(needed)} of disk in {Path.cwd()}, and {in_bytes(free)} are free; make room, or "
            f"give a smaller SIZE than {size} (half of it needs {in_bytes(half)})"
        )


def _fit_to(result: Read, params: CommentedMap, clusters: int, file: Path) -> None:
    """Bring what follows from the number of pictures to those that could be read: the plan counted files."""
    p, train = params["pretext"], result.counts["train"]
    wanted = plan.from_counts(result.counts, clusters, p["epochs"], min(p["batch_size"], train))
    if lines := overlay(params, wanted):
        save(params, file)
        print(f"{file}: {'; '.join(lines)}, for {train:,} pictures to learn from could be read")
