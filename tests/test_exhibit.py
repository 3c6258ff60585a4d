"""What the page shows: which images stand for a cluster, how large they are, where they lie on the map."""

import io

import numpy as np
from PIL import Image

from stages.images.store import Concatenated
from stages.page import exhibit as stage
from stages.page.exhibit import GALLERY, choose, exhibit
from stages.page.gallery import COLUMNS, SHEET, sheets
from stages.page.projection import plane
from stages.scoring.matching import assign


def probabilities(count: int, clusters: int, seed: int = 0) -> np.ndarray:
    logits = 3 * np.random.default_rng(seed).standard_normal((count, clusters))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)


def test_each_kind_is_what_it_is_called():
    p = probabilities(400, 5).astype(np.float64)
    first, second = np.sort(p, axis=1)[:, ::-1][:, :2].T
    members = np.flatnonzero(p.argmax(axis=1) == 2)
    chosen = choose(members, first, second, 6)
    by_confidence = sorted(members, key=lambda row: first[row])
    assert chosen["unsure"] == by_confidence[:6]
    assert sorted(first[chosen["typical"]]) == sorted(first[by_confidence[-6:]])
    assert set(chosen["random"]) <= set(members)
    assert len(set(chosen["random"])) == 6
    between = [row for row in members if first[row] + second[row] >= 0.8 and first[row] - second[row] < 0.5]
    assert chosen["torn"] == sorted(between, key=lambda row: first[row] - second[row])[:6]
    alone = choose(members[:1], first, second, 6)
    assert alone["typical"] == alone["random"] == alone["unsure"] == [members[0]]
    nobody = choose(members[:0], first, second, 6)
    assert nobody == {"typical": [], "random": [], "unsure": [], "torn": []}


def test_images_lie_on_the_sheets_in_order():
    images = np.arange(300, dtype=np.float64)[:, None, None, None] * np.ones((1, 20, 20, 1)) * 255 / 300
    side, made = sheets(
        Concatenated([images[:100].astype(np.uint8), images[100:].astype(np.uint8)]), list(range(300)), 10**7
    )
    assert (side, len(made)) == (20, 2)
    for number in (0, 17, 255, 256, 299):
        sheet = np.asarray(Image.open(io.BytesIO(made[number // SHEET])).convert("L")).astype(float)
        row, column = divmod(number % SHEET, COLUMNS)
        tile = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        assert abs(tile[4:-4, 4:-4].mean() - number * 255 / 300) < 3


def test_the_budget_decides_the_size():
    noise = Concatenated([np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), dtype=np.uint8)])
    sizes = {}
    for budget in (10**9, 400_000, 1):
        side, made = sheets(noise, list(range(300)), budget)
        sizes[side] = sum(map(len, made))
    (_, full), (middle, reduced), (least, _) = sizes.items()
    assert 20 == least < middle < 64
    assert reduced <= 400_000 < full


def test_the_map_keeps_neighbours_and_is_the_same_again():
    random = np.random.default_rng(0)
    centres = random.standard_normal((4, 64))
    group = np.repeat(np.arange(4), 30)
    vectors = (centres[group] + 0.2 * random.standard_normal((120, 64))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = plane(vectors)
    np.testing.assert_array_equal(found, plane(vectors))
    assert found.min() >= 0
    assert found.max() == 1
    np.testing.assert_allclose(found.min(axis=0) + found.max(axis=0), 1)
    distance = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()
    for count in range(1, 8):
        assert np.isfinite(plane(vectors[:count])).all()


def test_many_clusters_share_the_room(monkeypatch):
    monkeypatch.setattr(stage, "plane", lambda vectors: np.zeros((len(vectors), 2)))
    count, clusters = 3000, 300
    p = probabilities(count, clusters)
    assigned = assign(p)
    images = Concatenated([np.zeros((count, 8, 8, 1), np.uint8)])
    sizes = np.bincount(assigned.cluster, minlength=clusters)
    shown = exhibit(
        list(range(clusters)),
        assigned,
        Concatenated([p]),
        images,
        Concatenated([np.ones((count, 2), np.float32)]),
        [(5, 9, "exact")],
        12,
    )
    assert len(shown.numbers) == len(set(shown.numbers)) == len(shown.second)
    assert {number: len(kinds["unsure"]) for number, kinds in shown.kinds.items()} == {
        number: min(size, 2) for number, size in enumerate(sizes) if size
    }
    assert sum(len(numbers) for kinds in shown.kinds.values() for numbers in kinds.values()) <= GALLERY
    first, copy, _ = shown.pairs[0]
    assert [shown.numbers[first], shown.numbers[copy]] == [5, 9]
    likely = np.argsort(-p[shown.numbers].astype(float), axis=1, kind="stable")
    np.testing.assert_array_equal(shown.second, likely[:, 1])
