"""Duplicates: found where pixels say so, by slow comparison of every pair; pictures that only look alike are none."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.images import duplicates
from stages.images.duplicates import NEAR, TRIES, Duplicate, find_duplicates, read_duplicates, write_duplicates


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


def noisy(image: np.ndarray, count: int, share: float, seed: int = 0) -> np.ndarray:
    """Copies of an image that each differ from it by noise of that share of NEAR."""
    noise = np.random.default_rng(seed).normal(0, share * NEAR * image.std(), (count, *image.shape))
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


@pytest.fixture
def compared(monkeypatch) -> list[int]:
    """How many images are compared by their pixels, one number a comparison with a first one."""
    counts, differences = [], duplicates._differences

    def counted(images, rows, row):
        counts.append(len(rows))
        return differences(images, rows, row)

    monkeypatch.setattr(duplicates, "_differences", counted)
    return counts


@pytest.mark.parametrize("copies", [12, 40, 1000])
def test_all_copies_of_a_picture_are_one_group(copies, compared):
    different, random = pictures(200, channels=1), np.random.default_rng(0)
    images = random.permutation(np.concatenate([different, noisy(different[7], copies, 0.5)]))
    found = find_duplicates({"train": images})
    assert len(found) == copies
    assert len({d.of_row for d in found}) == 1
    if copies < 100:
        assert found == slowly({"train": images})
    assert sum(compared) < 1.5 * copies, "of n copies n are compared, not n² / 2"


def test_several_piles_at_once_over_splits(compared):
    different = pictures(60)
    piles = [noisy(different[row], 50 + 30 * row, 0.6, seed=row) for row in range(5)]
    images = np.random.default_rng(1).permutation(np.concatenate([different, *piles]))
    splits = {"train": images[:300], "unlabeled": images[300:400], "test": images[400:]}
    found = find_duplicates(splits)
    assert found == slowly(splits)
    assert len(found) == sum(map(len, piles))
    assert sum(compared) < 1.5 * len(found)


def test_copies_of_faint_dark_and_striped_pictures():
    faint = (pictures(40, channels=1) // 16 + 100).astype(np.uint8)
    dark = np.zeros((40, 24, 24, 1), np.uint8)
    dark[np.arange(40), np.arange(40) // 7 * 3 + 1, np.arange(40) % 7 * 3 + 1] = 200  # a dot in the dark each
    lines = np.random.default_rng(0).integers(0, 256, (40, 1, 24, 1), dtype=np.uint8).repeat(24, axis=1)  # spectra
    for images in (faint, dark, lines):
        again = np.concatenate([noisy(image, 12, 0.9, seed) for seed, image in enumerate(images[::4])])
        splits = {"train": np.random.default_rng(2).permutation(np.concatenate([images, again]))}
        assert find_duplicates(splits) == slowly(splits)


def detail(count: int) -> np.ndarray:
    """Different pictures of noise that have the same waves: each block of 3 × 3 pixels has the same mean."""
    noise = np.random.default_rng(0).integers(0, 128, (count, 8, 3, 8, 3)).astype(np.float32)
    return (noise - noise.mean(axis=(2, 4), keepdims=True) + 128).round().astype(np.uint8).reshape(count, 24, 24, 1)


def test_pictures_that_the_waves_cannot_tell_apart_are_hardly_compared(compared):
    different = detail(400)
    images = np.random.default_rng(0).permutation(np.concatenate([different, noisy(different[5], 40, 0.6)]))
    found = find_duplicates({"train": images})
    assert found == slowly({"train": images})
    assert len(found) == 40
    assert sum(compared) < 60


def test_frames_a_little_too_different_cost_a_bounded_number_of_comparisons(compared):
    """A still scene under noise just above what near copies may differ by: any could be a copy of any other."""
    frames = noisy(pictures(1, channels=1)[0], 2000, 1.2 / np.sqrt(2))
    assert find_duplicates({"train": frames}) == []
    assert 0 < sum(compared) <= TRIES * len(frames)


def test_as_a_file(tmp_path):
    found = [Duplicate("test", 3, "train", 2, "exact"), Duplicate("test", 4, "test", 0, "near")]
    write_duplicates(tmp_path, found)
    assert read_duplicates(tmp_path) == found
    lines = (tmp_path / "duplicates.csv").read_text().splitlines()
    assert lines[:2] == ["split,row,of_split,of_row,kind", "test,3,train,2,exact"]
