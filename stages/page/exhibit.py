"""Which images the page shows: those that stand for a cluster, a sample on a plane, copies beside their originals."""

from dataclasses import dataclass

import numpy as np

from stages.images.store import Concatenated
from stages.page.gallery import sheets
from stages.page.projection import plane
from stages.scoring.matching import Assignment

KINDS = ("typical", "random", "unsure", "torn")
TORN = 0.8  # what the two likeliest clusters of an image have to share for it to lie between just these two
SHOWN = 400  # clusters whose images the page shows, the largest; with more nobody names them in a page
GALLERY = 3200  # images that all clusters together show; each at least MINIMUM of a kind
MINIMUM = 2
POINTS = 1500  # images on the map
PAIRS = 24  # copies shown beside their originals
BUDGET = 7_000_000  # bytes of all images; in base64 they take a third more


@dataclass(frozen=True)
class Exhibit:
    """The images that the page shows. They are numbered over all splits, one after the other."""

    numbers: list[int]  # the images that are shown
    second: np.ndarray  # int (n,): of each of them, the second most probable cluster
    kinds: dict[int, dict[str, list[int]]]  # by cluster and kind places in `numbers`; only of clusters with images
    points: list[int]  # places in `numbers` of the images on the map
    plane: np.ndarray  # float (len(points), 2) in [0, 1]
    pairs: list[tuple[int, int, str]]  # copies: places in `numbers` of the first and of the copy, and the kind
    side: int  # pixels that each image takes on the sheets
    sheets: list[bytes]


def exhibit(
    clusters: list[int],
    assigned: Assignment,
    probabilities: Concatenated,
    images: Concatenated,
    embeddings: Concatenated,
    copies: list[tuple[int, int, str]],
    count: int,
) -> Exhibit:
    """Choose what to show, at most `count` images of each kind a cluster, and bring it into the page's form.

    clusters: the numbers of all, in the order in which they are shown. assigned: of all images, (N,). probabilities:
    (N, clusters), images: uint8 (N, H, W, C), embeddings: float32 (N, D), of all images. copies: numbers of a first
    image and of its copy, and the kind.
    """
    place: dict[int, int] = {}  # of an image on the sheets; those of one cluster lie together

    def places(numbers: list[int]) -> list[int]:
        return [place.setdefault(number, len(place)) for number in numbers]

    sizes = np.bincount(assigned.cluster, minlength=len(clusters))
    shown = sorted(clusters, key=lambda number: -sizes[number])[:SHOWN]
    count = max(MINIMUM, min(count, GALLERY // (len(KINDS) * len(shown))))
    members = np.split(np.argsort(assigned.cluster, kind="stable"), np.cumsum(sizes)[:-1])
    second_largest = assigned.confidence - assigned.margin
    kinds = {}
    for number in (number for number in shown if sizes[number]):
        chosen = choose(members[number], assigned.confidence, second_largest, count)
        kinds[number] = {kind: places(images_of) for kind, images_of in chosen.items()}
    pairs = [(*places([first, copy]), kind) for first, copy, kind in copies[:PAIRS]]
    sample = np.sort(np.random.default_rng(0).permutation(len(images))[:POINTS])
    points = places(sample.tolist())
    numbers = list(place)
    likely = np.asarray(probabilities[np.array(numbers)], dtype=np.float32)
    second = np.argsort(-likely, axis=1, kind="stable")[:, min(1, likely.shape[1] - 1)]
    on_plane = plane(np.asarray(embeddings[sample], dtype=np.float32))
    return Exhibit(numbers, second, kinds, points, on_plane, pairs, *sheets(images, numbers, BUDGET))


def choose(members: np.ndarray, confidence: np.ndarray, second: np.ndarray, count: int) -> dict[str, list[int]]:
    """At most `count` of a cluster's images of each kind: typical, random, unsure, and torn between two clusters.

    members: int (M,), the images in it. confidence, second: float (N,), the largest and second largest probability of
    every image. Typical are the surest, unsure the least sure; torn those that nearly as well belong to one other
    cluster, which two share nearly all of the probability. An image may be of several kinds.
    """
    first, next_best = confidence[members].astype(np.float32), second[members].astype(np.float32)
    drawn = np.random.default_rng(0).permutation(len(members))[:count]
    torn = np.flatnonzero(first + next_best >= TORN)
    torn = torn[np.argsort((first - next_best)[torn], kind="stable")][:count]
    orders = {
        "typical": np.argsort(-first, kind="stable")[:count],
        "random": np.sort(drawn),
        "unsure": np.argsort(first, kind="stable")[:count],
        # Where even these are sure, nothing lies at the border.
        "torn": torn[first[torn] - next_best[torn] < 0.5],
    }
    return {kind: members[orders[kind]].tolist() for kind in KINDS}
