"""What the page shows: every cluster with images that stand for it, a sample on a plane, copies side by side."""

from dataclasses import dataclass, field

import numpy as np

from stages.images.store import Concatenated
from stages.page.gallery import choose, sheets
from stages.page.projection import plane
from stages.scoring.matching import Assignment

SHOWN = 400  # clusters whose images the page shows, the largest; with more nobody names them in a page
GALLERY = 3200  # images that all clusters together show; each at least MINIMUM of a kind
MINIMUM = 2
POINTS = 1500  # images on the map
PAIRS = 24  # copies shown beside their originals
BUDGET = 7_000_000  # bytes of all images; in base64 they take a third more
GOLDEN = 137.508  # degrees between the colours of one cluster and the next: none is near another for long


@dataclass
class Cluster:
    """A cluster as the page shows it."""

    number: int
    called: str  # without a name given by people: its class, or "cluster 7"
    name: str  # given by people; "" where none was
    merge: int | None  # the cluster that people took it for the same as
    junk: bool
    klass: int  # the class that it is matched with, −1 for none
    note: str  # what else there is to say about it; may be empty
    size: int
    share: float
    confidence: float  # of its images, on average; 0 without images
    hue: float  # of its colour, in degrees
    kinds: dict[str, list[int]] = field(default_factory=dict)  # images by kind, as places in Exhibit.numbers


@dataclass
class Exhibit:
    """All that the page shows of images. Images are numbered over all splits, one after the other."""

    clusters: list[Cluster]
    numbers: list[int]  # the images that are shown
    second: np.ndarray  # int (n,): of each of them, the second most probable cluster
    side: int  # pixels that each takes on the sheets
    sheets: list[bytes]
    points: list[int]  # places in `numbers` of the images on the map
    plane: np.ndarray  # float (len(points), 2) in [0, 1]
    pairs: list[tuple[int, int, str]]  # copies: places in `numbers` of the first and of the copy, and the kind


def exhibit(
    clusters: list[Cluster],
    assigned: Assignment,
    probabilities: Concatenated,
    images: Concatenated,
    embeddings: Concatenated,
    copies: list[tuple[int, int, str]],
    count: int,
) -> Exhibit:
    """Choose what to show, at most `count` images of each kind a cluster, and bring it into the page's form.

    clusters: all, in the order in which they are shown. assigned: of all images, (N,). probabilities: (N, clusters),
    images: uint8 (N, H, W, C), embeddings: float32 (N, D), of all images. copies: numbers of a first image and of its
    copy, and the kind.
    """
    shown = sorted(clusters, key=lambda cluster: -cluster.size)[:SHOWN]
    count = max(MINIMUM, min(count, GALLERY // (4 * len(shown))))
    place: dict[int, int] = {}  # of an image on the sheets; those of one cluster lie together

    def places(numbers: list[int]) -> list[int]:
        return [place.setdefault(number, len(place)) for number in numbers]

    order = np.argsort(assigned.cluster, kind="stable")
    ends = np.cumsum([0, *(np.bincount(assigned.cluster, minlength=len(clusters)))])
    for cluster in shown:
        members = order[ends[cluster.number] : ends[cluster.number + 1]]
        chosen = choose(members, assigned.confidence, assigned.confidence - assigned.margin, count)
        cluster.kinds = {kind: places(numbers) for kind, numbers in chosen.items()}
    pairs = [(*places([first, copy]), kind) for first, copy, kind in copies[:PAIRS]]
    sample = np.sort(np.random.default_rng(0).permutation(len(images))[:POINTS])
    points = places(sample.tolist())
    numbers = list(place)
    side, made = sheets(images, numbers, BUDGET)
    likely = np.asarray(probabilities[np.array(numbers)], dtype=np.float32)
    second = np.argsort(-likely, axis=1, kind="stable")[:, min(1, likely.shape[1] - 1)]
    on_plane = plane(np.asarray(embeddings[sample], dtype=np.float32))
    return Exhibit(clusters, numbers, second, side, made, points, on_plane, pairs)
