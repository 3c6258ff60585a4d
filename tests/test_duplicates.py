"""Duplicates: found where pixels say so, by slow comparison of every pair; pictures that only look alike are none."""

import io

import numpy as np
from PIL import Image

from stages.images.duplicates import NEAR, Duplicate, find_duplicates, read_duplicates, write_duplicates


def pictures(count: int, seed: int = 0, side: int = 24, channels: int = 3) -> np.ndarray:
    """Smooth random pictures, as photographs are: noise of 6 × 6 pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in small]
    return np.stack(large)[..., :channels]


def saved_again(image: np.ndarray, quality: int = 98) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(buffer))


def slowly(splits: dict[str, np.ndarray]) -> list[tuple]:
    """By comparing each image with each earlier one that is no duplicate."""
    images = np.concatenate(list(splits.values())).astype(np.float64)
    places = [(split, row) for split, part in splits.items() for row in range(len(part))]
    firsts, found = [], []
    for number, image in enumerate(images):
        for first in firsts:
            if np.sqrt(np.square(image - images[first]).mean()) <= NEAR * images[first].std():
                kind = "exact" if (image == images[first]).all() else "near"
                found.append(Duplicate(*places[number], *places[first], kind))
                break
        else:
            firsts.append(number)
    return found


def test_copies_are_found_as_by_comparing_all_pairs():
    train, test = pictures(60), pictures(20, seed=1)
    train[[5, 41]] = train[2]
    train[50] = saved_again(train[9])
    test[3], test[4], test[5] = train[5], saved_again(train[30]), test[0]
    unlabeled = np.stack([saved_again(train[50]), train[1]])
    splits = {"train": train, "unlabeled": unlabeled, "test": test}
    found = find_duplicates(splits)
    assert found == slowly(splits)
    assert set(found) == {
        Duplicate("train", 5, "train", 2, "exact"),
        Duplicate("train", 41, "train", 2, "exact"),
        Duplicate("train", 50, "train", 9, "near"),
        Duplicate("unlabeled", 0, "train", 9, "near"),
        Duplicate("unlabeled", 1, "train", 1, "exact"),
        Duplicate("test", 3, "train", 2, "exact"),
        Duplicate("test", 4, "train", 30, "near"),
        Duplicate("test", 5, "test", 0, "exact"),
    }


def test_what_only_looks_alike_is_no_copy():
    image = pictures(1)[0]
    others = [
        image[:, ::-1],
        np.roll(image, 2, axis=1),
        np.clip(image.astype(int) + 25, 0, 255).astype(np.uint8),
        np.asarray(Image.fromarray(image).crop((2, 2, 22, 22)).resize((24, 24))),
    ]
    assert find_duplicates({"train": np.stack([image, *others])}) == []


def test_flat_images_and_small_ones():
    black, grey = np.zeros((3, 8, 8, 1), np.uint8), np.full((2, 8, 8, 1), 9, np.uint8)
    found = find_duplicates({"train": np.concatenate([black, grey])})
    assert [(d.row, d.of_row, d.kind) for d in found] == [(1, 0, "exact"), (2, 0, "exact"), (4, 3, "exact")]
    assert find_duplicates({"train": black[:1]}) == []
    assert find_duplicates({"train": pictures(30, side=3, channels=1)}) == []


def test_a_row_of_small_steps_is_not_one_group():
    """Frames of a film: each resembles the one before, the last does not resemble the first."""
    start, end = pictures(2).astype(np.float64)
    frames = np.stack([start + (end - start) * step / 200 for step in range(200)]).round().astype(np.uint8)
    found = find_duplicates({"train": frames})
    assert len({d.of_row for d in found}) > 5
    for d in found:
        difference = frames[d.row].astype(float) - frames[d.of_row]
        assert np.sqrt(np.square(difference).mean()) <= NEAR * frames[d.of_row].std()


def test_as_a_file(tmp_path):
    found = [Duplicate("test", 3, "train", 2, "exact"), Duplicate("test", 4, "test", 0, "near")]
    write_duplicates(tmp_path, found)
    assert read_duplicates(tmp_path) == found
    lines = (tmp_path / "duplicates.csv").read_text().splitlines()
    assert lines[:2] == ["split,row,of_split,of_row,kind", "test,3,train,2,exact"]
