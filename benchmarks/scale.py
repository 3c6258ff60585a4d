"""What a stage costs as images grow in number: `python -m benchmarks.scale` (`make scale`).

Runs the real stages on 10,000, 100,000 and 1,000,000 images, made from the pipeline's by small shifts, one epoch of
each training with the network `tiny`, and writes seconds and peak memory to reports/scale.csv and a figure beside it.
Takes about half an hour on two cores and 3 GB of temporary disk. Needs data/images and data/labels
(`dvc repro download`).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml

from benchmarks.vectors import shifted
from stages.images.duplicates import write_duplicates
from stages.images.store import read_images, read_labels, write_labels

SIZES = [10_000, 100_000, 1_000_000]
TEST = 10_000
# One epoch of everything, so that costs compare; heads compute little, which two epochs show.
PARAMS = {
    "pretext": {"backbone": "tiny", "epochs": 1},
    "kmeans": {"restarts": 1},
    "scan": {"heads": 10, "head_epochs": 2, "epochs": 1},
    "selflabel": {"epochs": 1, "threshold": 0.2},  # after so little training nothing is surer
}
STAGES = ["pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate"]


def make_data(folder: Path, count: int) -> None:
    """data/images and data/labels of so many shifted training images."""
    images, labels = Path("data/images"), Path("data/labels")
    for name in ("images", "labels"):
        (folder / "data" / name).mkdir(parents=True)
    (folder / "data/images/meta.json").write_text((images / "meta.json").read_text())
    known, classes = read_labels(labels)
    write = {}
    for split, rows in {"train": count, "test": TEST}.items():
        shifted(folder / f"data/images/{split}.npy", read_images(images, split), rows)
        write[split] = known[split][np.arange(rows) % len(known[split])]
    write_duplicates(folder / "data/images", [])  # shifted by more than a copy would be
    write_labels(folder / "data/labels", write, classes)


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory of its own that it holds, in GB.

    Pages of memory-mapped files are left out: the system drops them when it needs the room.
    """
    largest, start = 0, time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(Path.cwd())})

    def watch() -> None:
        nonlocal largest
        while process.poll() is None:
            with open(f"/proc/{process.pid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            largest = max(largest, int(fields.get("RssAnon", "0 kB").split()[0]))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return seconds, largest * 1024 / 1e9


def commands() -> dict[str, list[str]]:
    """The stages as dvc.yaml runs them."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    return {name: [sys.executable, *stages[name]["cmd"].split()[1:]] for name in STAGES}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds and gigabytes of every stage against the number of images, both axes logarithmic."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, column, title in zip(axes, ("seconds", "gigabytes"), ("seconds", "peak memory, GB"), strict=True):
        for stage in STAGES:
            rows = table[table.stage == stage]
            axis.loglog(rows.images, rows[column], "o-", label=stage)
        axis.set(xlabel="images", title=title)
        axis.grid(alpha=0.3)
    axes[1].axhline(3, color="grey", linestyle="--", linewidth=1)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run every size, smallest first; write table and figure after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("reports/scale.csv"))
    arguments = parser.parse_args()
    rows: list[dict] = []
    for count in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_data(folder, count)
            params = yaml.safe_load(Path("params.yaml").read_text())
            for block, values in PARAMS.items():
                params[block] |= values
            (folder / "params.yaml").write_text(yaml.safe_dump(params))
            for stage, command in commands().items():
                seconds, memory = measure(command, folder)
                row = {"stage": stage, "images": count, "seconds": round(seconds, 1), "gigabytes": round(memory, 3)}
                before = [other for other in rows if other["stage"] == stage]
                # How seconds grow between this size and the one before: 1 is in proportion to the images.
                factor = np.log(count / before[-1]["images"]) if before else np.nan
                row["exponent"] = round(np.log(seconds / before[-1]["seconds"]) / factor, 2) if before else np.nan
                print(row, flush=True)
                rows.append(row)
        table = pd.DataFrame(rows)
        table.to_csv(arguments.out, index=False)
        draw(table, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
