"""What is learned where images have copies: `python -m benchmarks.copies`.

Makes small sets of images with copies in them, trains a short SimCLR on each, and then SCAN's heads with three kinds of
neighbours: all (copies are neighbours like any other), different (copies are none) and rule (what the stage mine does).
Writes how many neighbours are of the same class, and SCAN's accuracy on the training images, to reports/copies.csv.
Takes about ten minutes on two cores.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn.datasets import load_digits

from stages import embed, mine, pretext, scan
from stages.images.duplicates import different, find_duplicates, first_of_equals, write_duplicates
from stages.images.store import write_images, write_labels
from stages.neighbors.exact import Selected, nearest
from stages.scoring.matching import contingency, hungarian

Labelled = Iterator[tuple[np.ndarray, int]]
SIDE = 32
K = 20


def scene(random: np.random.Generator, kind: int) -> np.ndarray:
    """A picture of a kind: coloured ground, stripes of a direction and width, a patch; float (SIDE, SIDE, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    ground = np.array([(200, 60, 40), (40, 90, 200), (50, 170, 70), (220, 200, 60), (150, 60, 170)][kind % 5])
    image = np.tile(ground * (0.7 + 0.3 * random.random()), (SIDE, SIDE, 1))
    waves = (2 + 2 * kind) * (x * np.cos(kind) + y * np.sin(kind))
    image += 40 * np.sin(2 * np.pi * waves + 6 * random.random())[..., None]
    top, left, size = random.integers([0, 0, 6], [20, 20, 14])
    image[top : top + size, left : left + size] = random.integers(0, 256, 3)
    return image


def shots(random: np.random.Generator, image: np.ndarray, count: int, label: int, noise: float = 1.5) -> Labelled:
    """Frames of a scene that differ by sensor noise."""
    for _ in range(count):
        yield np.clip(image + random.normal(0, noise, image.shape), 0, 255).round().astype(np.uint8), label


def cameras(random: np.random.Generator) -> Labelled:
    """Four fixed cameras of 60 frames."""
    for kind in range(4):
        yield from shots(random, scene(random, kind), 60, kind)


def bursts(random: np.random.Generator) -> Labelled:
    """Sixty scenes of five kinds, five shots of each."""
    for number in range(60):
        yield from shots(random, scene(random, number % 5), 5, number % 5)


def few_bursts(random: np.random.Generator) -> Labelled:
    """Five scenes, each a class, of three to ten shots and one of 60."""
    for kind, count in enumerate((3, 6, 8, 10, 60)):
        yield from shots(random, scene(random, kind), count, kind)


def camera_beside_kinds(random: np.random.Generator) -> Labelled:
    """Eighty frames of a camera, and three kinds of a hundred different scenes."""
    yield from shots(random, scene(random, 4), 80, 3)
    for number in range(300):
        yield from shots(random, scene(random, number % 3), 1, number % 3)


def pile_in_a_kind(random: np.random.Generator) -> Labelled:
    """Five kinds of 120 different scenes, one of which is there 51 times."""
    made = [next(shots(random, scene(random, number % 5), 1, number % 5)) for number in range(600)]
    yield from made + made[7:8] * 50


def digits(random: np.random.Generator) -> Labelled:
    """The digits, and 5 % of them again."""
    data = load_digits()
    rows = [*range(len(data.target)), *random.integers(0, len(data.target), len(data.target) // 20)]
    for row in rows:
        yield np.kron(data.images[row] * 15.9, np.ones((2, 2))).astype(np.uint8)[..., None], int(data.target[row])


SETS: dict[str, Callable[[np.random.Generator], Labelled]] = {
    "cameras": cameras,
    "bursts": bursts,
    "few bursts": few_bursts,
    "camera beside kinds": camera_beside_kinds,
    "pile in a kind": pile_in_a_kind,
    "digits": digits,
}


def learn(name: str, folder: Path) -> Iterator[dict]:
    """A row for each kind of neighbours. folder: an empty one, where data are written."""
    random = np.random.default_rng(0)
    made = list(SETS[name](random))
    order = random.permutation(len(made))
    images, labels = np.stack([made[row][0] for row in order]), np.array([made[row][1] for row in order])
    for part in ("images", "labels"):
        (folder / part).mkdir()
    write_images(folder / "images", name, {"train": images, "test": images[:8]}, "made")
    write_labels(folder / "labels", {"train": labels}, [str(number) for number in range(labels.max() + 1)])
    found = find_duplicates({"train": images})
    write_duplicates(folder / "images", found)

    params = yaml.safe_load(Path("params.yaml").read_text())
    params["clusters"] = int(labels.max() + 1)
    epochs = max(8, min(150, 40_000 // len(images)))
    params["pretext"] |= {"epochs": epochs, "batch_size": 32, "lr": 0.025, "warmup_epochs": 1.0}
    if name != "digits":  # as commands.own has it for photographs
        params["views"] |= {"crop_area": [0.2, 1.0], "zoom": [1.0, 1.0], "shift_y": 0.0, "flip": 0.5, "contrast": 0.4}
        params["views"] |= {"saturation": 0.4, "hue": 0.1, "grayscale": 0.2, "brightness": 0.4, "blur": 0.0}
    params["mine"] |= {"k": K}
    params["scan"] |= {"train": "heads", "head_epochs": 60, "head_batch_size": 128}

    def read(stage):
        return stage.Params.model_validate({block: params[block] for block in stage.Params.model_fields})

    at = {part: folder / part for part in ("images", "pretext", "embeddings", "rule")}
    pretext.pretext(read(pretext), at["images"], at["pretext"], folder / "ckpt")
    embed.embed(read(embed), at["images"], at["pretext"], at["embeddings"])
    mine.mine(read(mine), at["images"], at["embeddings"], at["rule"])
    vectors, first = np.load(at["embeddings"] / "train.npy"), first_of_equals("train", len(images), found)
    rows = np.unique(first)
    apart = rows[nearest(Selected(vectors, rows), min(K, len(rows) - 1))][np.searchsorted(rows, first)]
    rule = np.load(at["rule"] / "train.npy")
    for kind, near in {"all": nearest(vectors, K), "different": apart, "rule": rule}.items():
        neighbors, out = folder / f"neighbors {kind}", folder / f"scan {kind}"
        neighbors.mkdir()
        np.save(neighbors / "train.npy", near.astype(np.int32))
        scan.scan(read(scan), at["images"], at["pretext"], at["embeddings"], neighbors, out, folder / "ckpt")
        cluster = np.load(out / "probabilities-train.npy").argmax(axis=1)
        counts = contingency(labels, cluster, (params["clusters"], params["clusters"]))
        class_of = np.array(hungarian(counts))
        about = {"set": name, "images": len(images), "different": different("train", len(images), found)}
        same, copies = (near_of[near] == near_of[:, None] for near_of in (labels, first))
        yield about | {
            "neighbours": kind,
            "same_class": round(float(same.mean()), 3),
            "copies": round(float(copies.mean()), 3),
            "accuracy": round(float((class_of[cluster] == labels).mean()), 3),
        }


def main() -> None:
    """Learn from every set and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="set", help=f"default: all of {', '.join(SETS)}")
    parser.add_argument("--out", type=Path, default=Path("reports/copies.csv"))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sets if name not in SETS]:
        parser.error(f"no set {unknown[0]}; there are {', '.join(SETS)}")
    rows = []
    for name in arguments.sets or SETS:
        with tempfile.TemporaryDirectory() as folder:
            rows += learn(name, Path(folder))
        print(*rows[-3:], sep="\n", flush=True)
    pd.DataFrame(rows).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
