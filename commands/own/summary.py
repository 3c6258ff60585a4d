"""What is said of a folder, of the plan for it, and of what was read."""

import shutil
import sys
from pathlib import Path

from commands.own import estimate
from commands.own.download import IMAGES, Read
from commands.own.machine import free_memory
from commands.own.plan import FEW
from commands.own.speed import Speed
from commands.own.survey import Survey
from stages.images.sources.walking import say
from stages.plumbing.printing import printable
from stages.training.devices import device

MUCH = 0.5  # of a picture; of photographs a quarter to less than a half lies outside the square in the middle
DARK = 32  # of 255: what no picture of a folder is brighter than was read otherwise than it was meant
SOME = 0.1  # of the pictures


def say_survey(path: Path, survey: Survey) -> None:
    """How many pictures there are, what else lies there, how large they are, and whether they are labelled."""
    splits = f"{survey.counts['train']:,} to learn from, {survey.counts['test']:,} set aside to test"
    if extra := survey.counts.get("unlabeled"):
        splits += f", {extra:,} more for the pretext only"
    print(f"Pictures   {survey.total:,} in {printable(str(path))}: {splits}{say(survey.left_out)}")
    if survey.total < FEW:
        print(f"           That is few; groups found in less than {FEW} pictures are a matter of luck.")
    order = sorted(survey.sides, key=lambda pair: (pair[0] * pair[1], pair))
    wide, high = (sorted(side)[len(order) // 2] for side in zip(*order))
    (w, h), (W, H) = order[0], order[-1]
    of = "" if len(order) >= survey.total - 1 else f" (of a sample of {len(order):,})"
    sizes = (
        f"all {w} × {h}" if order[0] == order[-1] else f"median {wide} × {high}, smallest {w} × {h}, largest {W} × {H}"
    )
    print(f"Sizes      {sizes} pixels{of}, {'grey' if survey.channels == 1 else 'colour'}")
    if survey.cut_away >= MUCH:
        print(
            f"           Only the square in the middle of each picture is used: {survey.cut_away:.0%} of a typical one "
            "is cut away. If that matters, make them square first."
        )
    labels = f"{survey.classes:,} class folders, for the scores only" if survey.classes else "none, and none are needed"
    print(f"Labels     {labels}", flush=True)


def say_plan(survey: Survey, content: dict, speed: Speed, hours: float | None) -> None:
    """What a run will take. hours: those that it was planned for, None where nothing was planned anew."""
    parts = estimate.seconds(survey, content, speed)
    total = sum(parts.values())
    listed = ", ".join(f"{name} {duration(value)}" for name, value in parts.items() if value >= 1)
    print(f"Time       about {duration(total)} for a whole run: {listed}")
    if hours is not None and total > 3600 * hours:
        print(
            f"           That is more than HOURS={hours:g}, even with the cheapest network and few epochs; "
            "an interrupted run goes on with dvc repro"
        )
    needed, free = estimate.memory(survey, content, speed), free_memory()
    where = " on the GPU" if device().type == "cuda" else ""
    print(f"Memory     about {in_bytes(needed)} of {in_bytes(free)} free{where}")
    if needed > free:
        print("           That is too much: the system may end the run. A smaller SIZE takes less.")
    disk, room = estimate.disk(survey, content, speed), shutil.disk_usage(Path.cwd()).free
    print(f"Disk       about {in_bytes(disk)} of {in_bytes(room)} free, copies in DVC's cache included", flush=True)


def say_read(result: Read) -> None:
    """How many pictures could be read, and how many are copies."""
    counts = " + ".join(f"{count:,} {split}" for split, count in result.counts.items())
    print(f"Read       {counts}; {result.skipped:,} unreadable{_see(result.skipped, 'skipped.csv')}")
    copies = result.exact + result.near
    print(f"Duplicates {result.exact:,} exact, {result.near:,} near{_see(copies, 'duplicates.csv')}")
    if result.brightest < DARK:
        print(
            "           The pictures are nearly black as they are stored: no value is above "
            f"{result.brightest} of 255. So look 16-bit files that use few of their levels; scale them to the full "
            "range first."
        )
    elif result.flat >= SOME * result.looked_at:
        print(
            f"           {result.flat:,} of {result.looked_at:,} pictures looked at are of one colour as they are "
            "stored, and cannot be told apart. Are they blank, or blank in the middle?"
        )
    sys.stdout.flush()


def _see(count: int, name: str) -> str:
    return f", listed in {IMAGES / name}" if count else ""


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def in_bytes(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
