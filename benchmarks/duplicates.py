"""What finding duplicates costs as copies grow in number: `python -m benchmarks.duplicates`.

Makes grey images of 28 × 28 pixels: different pictures, and piles of near copies of one among them, in any order. Runs
`find_duplicates` on them in a process of its own and writes seconds (the start of Python included), peak memory, how
many duplicates were found and in how many groups to reports/duplicates.csv. Takes a few minutes on two cores.

smooth: pictures as photographs are. detail: they differ in fine detail alone, so that the waves cannot tell them apart.
still: frames of one scene that differ by a little more than near copies do, so that none is a copy of another.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from benchmarks.scale import measure
from stages.images.duplicates import NEAR, read_duplicates

SIDE = 28
# kind, different pictures, copies in a pile, piles
CASES = [
    ("smooth", 70_000, 0, 0),
    ("smooth", 480_000, 0, 0),
    ("smooth", 20_000, 12, 1),
    ("smooth", 20_000, 40, 1),
    ("smooth", 20_000, 1_000, 1),
    ("smooth", 20_000, 5_000, 4),
    ("smooth", 20_000, 40, 500),
    ("smooth", 1, 20_000, 1),
    ("smooth", 1, 100_000, 1),
    ("detail", 20_000, 1_000, 1),
    ("still", 20_000, 0, 0),
]
FIND = """
import sys
from pathlib import Path
import numpy as np
from stages.images.duplicates import find_duplicates, write_duplicates
folder = Path(sys.argv[1])
write_duplicates(folder, find_duplicates({"train": np.load(folder / "train.npy", mmap_mode="r")}))
"""


def pictures(kind: str, different: int, copies: int, piles: int) -> np.ndarray:
    """The images of a case: uint8 (different + copies · piles, SIDE, SIDE, 1)."""
    random = np.random.default_rng(0)
    if kind == "smooth":
        small = random.integers(0, 256, (different, 7, 7), dtype=np.uint8)
        made = np.concatenate(
            [zoom(part, (1, 4, 4), order=1) for part in np.array_split(small, different // 10**4 + 1)]
        )
    elif kind == "detail":
        made = random.integers(64, 192, (different, SIDE, SIDE)).astype(np.float32)
        blocks = made.reshape(different, 4, 7, 4, 7)
        made = (
            (blocks - blocks.mean(axis=(2, 4), keepdims=True) + 128).reshape(made.shape).clip(0, 255).astype(np.uint8)
        )
    else:
        scene = zoom(random.integers(0, 256, (7, 7)).astype(np.float32), 4, order=1).clip(10, 245)
        noise = random.normal(0, 1.1 * NEAR * scene.std() / np.sqrt(2), (different, SIDE, SIDE))
        made = (scene + noise).round().clip(0, 255).astype(np.uint8)
    for first in made[:piles]:
        noise = random.normal(0, 0.4 * NEAR * first.std(), (copies, SIDE, SIDE))
        made = np.concatenate([made, (first + noise).round().clip(0, 255).astype(np.uint8)])
    return random.permutation(made)[..., None]


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--up-to", type=int, default=10**6, metavar="IMAGES", help="leave out larger cases")
    parser.add_argument("--out", type=Path, default=Path("reports/duplicates.csv"))
    arguments = parser.parse_args()
    rows = []
    for kind, different, copies, piles in CASES:
        images = different + copies * piles
        if images > arguments.up_to:
            continue
        with tempfile.TemporaryDirectory() as name:
            np.save(Path(name, "train.npy"), pictures(kind, different, copies, piles))
            seconds, gigabytes = measure([sys.executable, "-c", FIND, name], Path.cwd())
            found = read_duplicates(Path(name))
        row = {"kind": kind, "images": images, "copies": copies, "piles": piles}
        row |= {"seconds": round(seconds, 1), "megabytes": round(1000 * gigabytes)}
        row |= {"found": len(found), "groups": len({copy.of_row for copy in found})}
        print(row, flush=True)
        rows.append(row)
    pd.DataFrame(rows).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
