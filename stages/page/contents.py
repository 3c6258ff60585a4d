"""What the page shows: what was found of the images, what is known of every cluster, and where images come from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.images.duplicates import Duplicate, read_duplicates
from stages.images.index import read_index
from stages.images.store import Concatenated, read_labels
from stages.page.exhibit import Exhibit, exhibit
from stages.page.figures import Prototypes
from stages.plumbing.printing import printable
from stages.scoring.matching import Assignment, assign, contingency, hungarian
from stages.scoring.names import JUNK, Names
from stages.scoring.results import check_counts

SPLITS = ("train", "test")
GOLDEN = 137.508  # degrees between the colours of one cluster and the next: none is near another for long


class Findings(NamedTuple):
    """What was found of all images, those of train before those of test, N together."""

    pixels: Concatenated  # uint8 (N, H, W, C)
    embeddings: Concatenated  # float32 (N, D)
    probabilities: Concatenated  # float16 (N, clusters)
    assigned: Assignment  # of every image
    truth: np.ndarray  # int64 (N,): the number of its class, −1 without a label
    classes: list[str]
    rows: dict[str, slice]  # which of the N are of a split


class Cluster(NamedTuple):
    """A cluster as the page shows it."""

    number: int
    matched: int  # the class that it is matched with, −1 for none
    called: str  # without a name given by people: that class, or "cluster 7"
    name: str  # given by people; "" where none was
    merge: int | None  # the cluster that people took it for the same as
    junk: bool
    note: str  # what else there is to say about it; may be empty
    size: int
    share: float
    confidence: float  # of its images, on average; 0 without images
    hue: float  # of its colour, in degrees


class Contents(NamedTuple):
    """All that the page shows of clusters and images."""

    clusters: list[Cluster]  # in the order in which they are shown
    classes: list[str]
    shown: Exhibit
    images: dict[str, list]  # of those that are shown: `place`, `cluster`, `confidence`, `margin` and `truth`
    files: bool  # whether a place is a file, else it is a split and a row
    copies: dict[str, int]  # how many images equal an earlier one: `exact` and `near`; how many of `test` are in train


def read_findings(images: Path, labels: Path, embeddings: Path, predictions: Path) -> Findings:
    """Read the folders of the stages, memory-mapped. UserError where predictions are not about these images."""
    pixels, vectors = read_splits(images, "{}.npy"), read_splits(embeddings, "{}.npy")
    probabilities = read_splits(predictions, "probabilities-{}.npy")
    for split, held, about in zip(SPLITS, pixels.parts, probabilities.parts, strict=True):
        check_counts(split, {images: held, predictions: about})
    rows = {split: slice(end - len(part), end) for split, end, part in zip(SPLITS, pixels.ends.tolist(), pixels.parts)}
    known, classes = read_labels(labels)
    truth = np.full(len(pixels), -1)
    for split in known.keys() & rows.keys():
        truth[rows[split]] = known[split]
    return Findings(pixels, vectors, probabilities, assign(probabilities), truth, classes, rows)


def read_splits(folder: Path, name: str) -> Concatenated:
    """The arrays of all SPLITS in a folder, memory-mapped, one after the other."""
    return Concatenated([np.load(folder / name.format(split), mmap_mode="r") for split in SPLITS])


def describe(findings: Findings, names: Names) -> list[Cluster]:
    """Every cluster, what is known of it and what people made of it; in the order of the classes, then by size.

    That is the order of the confusion matrix, and the sizes are those on test.
    """
    cluster, classes = findings.assigned.cluster, findings.classes
    counts = count_classes(findings)
    class_of = hungarian(counts)
    sizes = np.bincount(cluster, minlength=len(class_of))
    sure = np.bincount(cluster, findings.assigned.confidence, len(class_of)) / np.maximum(sizes, 1)
    on_test = np.bincount(cluster[findings.rows["test"]], minlength=len(class_of))
    clusters = []
    for place, number in enumerate(np.lexsort((-on_test, class_of, class_of < 0)).tolist()):
        junk = names.name[number] == JUNK
        merged = names.group[number] != number and not junk
        clusters.append(
            Cluster(
                number=number,
                matched=int(class_of[number]),
                called=classes[class_of[number]] if class_of[number] >= 0 else f"cluster {number}",
                name="" if merged or junk else names.name[number],
                merge=names.group[number] if merged else None,
                junk=junk,
                note=commonest(counts[:, number], classes),
                size=int(sizes[number]),
                share=float(sizes[number] / len(cluster)),
                confidence=float(sure[number]),
                hue=place * GOLDEN % 360,
            )
        )
    return clusters


def count_classes(findings: Findings) -> np.ndarray:
    """Images of each class in each cluster, int64 (classes, clusters), of all that have labels."""
    labelled = findings.truth >= 0
    shape = len(findings.classes), len(findings.assigned.mean)
    return contingency(findings.truth[labelled], findings.assigned.cluster[labelled], shape)


def commonest(counts: np.ndarray, classes: list[str]) -> str:
    """What to say of a cluster that holds so many images of each class; empty where none is known."""
    return f"{counts.max() / counts.sum():.0%} are {classes[counts.argmax()]}" if counts.any() else ""


def choose_prototypes(findings: Findings, clusters: list[Cluster], count: int) -> list[Prototypes]:
    """The most confident images of test in every cluster, at most `count` of each."""
    rows = findings.rows["test"]
    pixels, truth = findings.pixels.parts[SPLITS.index("test")], findings.truth[rows]
    assigned, confidence = findings.assigned.cluster[rows], findings.assigned.confidence[rows]
    found = []
    for cluster in clusters:
        members = np.flatnonzero(assigned == cluster.number)
        chosen = members[np.argsort(-confidence[members], kind="stable")[:count]]
        wrong = (cluster.matched >= 0) & (truth[chosen] >= 0) & (truth[chosen] != cluster.matched)
        found.append(Prototypes(cluster.number, cluster.called, len(members), pixels[chosen], wrong))
    return found


def gather(images: Path, findings: Findings, clusters: list[Cluster], count: int) -> Contents:
    """All that the page shows, at most `count` images of each kind a cluster; `images` is their folder."""
    copies = [copy for copy in read_duplicates(images) if {copy.split, copy.of_split} <= findings.rows.keys()]
    shown = exhibit(
        [cluster.number for cluster in clusters],
        findings.assigned,
        findings.probabilities,
        findings.pixels,
        findings.embeddings,
        pair(copies, findings),
        count,
    )
    numbers, files = np.array(shown.numbers), read_index(images)
    facts = {
        "place": places(files, findings, shown.numbers),
        "cluster": findings.assigned.cluster[numbers].tolist(),
        "confidence": findings.assigned.confidence[numbers].astype(float).round(4).tolist(),
        "margin": findings.assigned.margin[numbers].astype(float).round(4).tolist(),
        "truth": findings.truth[numbers].tolist(),
    }
    counts = {kind: sum(copy.kind == kind for copy in copies) for kind in ("exact", "near")}
    counts["test"] = sum((copy.split, copy.of_split) == ("test", "train") for copy in copies)
    return Contents(clusters, findings.classes, shown, facts, files is not None, counts)


def pair(copies: list[Duplicate], findings: Findings) -> list[tuple[int, int, str]]:
    """The numbers of a first image and of its copy, and the kind.

    Those that reach into another split come first: they make scores of test images look better than they are.
    """
    start = {split: rows.start for split, rows in findings.rows.items()}
    copies = sorted(copies, key=lambda copy: copy.split == copy.of_split)
    return [(start[copy.of_split] + copy.of_row, start[copy.split] + copy.row, copy.kind) for copy in copies]


def places(files: dict[tuple[str, int], str] | None, findings: Findings, numbers: list[int]) -> list[str]:
    """Where those images come from: their files, by split and row, or without such a table their splits and rows."""
    found = [(split, row) for split, rows in findings.rows.items() for row in range(rows.stop - rows.start)]
    shown = [found[number] for number in numbers]
    return [printable(files[place]) if files and place in files else f"{place[0]} {place[1]}" for place in shown]
