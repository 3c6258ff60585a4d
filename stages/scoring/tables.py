"""Tables for people and their tools: what is known of every image, what became of every class, scores in short."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.images.duplicates import read_duplicates
from stages.images.index import read_index
from stages.plumbing.csv_files import write_rows
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_file
from stages.scoring.matching import Assignment, confusion_matrix
from stages.scoring.purity import PURITY_AT

ROWS_AT_ONCE = 2**16
DIGITS = 4
FILE_COLUMNS = ("path", "duplicate_of")
MODELS = ("kmeans", "scan", "selflabel")
SHORT = ("acc", "nmi", "ari", "top5", "majority_acc", "clusters_alive", "largest", "smallest", "confidence")
SHORT += ("confident",)


def neighbors_agree(neighbors: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """The share of each image's neighbours, int (N, K), that are in its own cluster, int (N,): float64 (N,).

    NaN for all where there are no neighbours (K = 0).
    """
    if neighbors.shape[1] == 0:
        return np.full(len(cluster), np.nan)
    share = np.empty(len(cluster))
    for start in range(0, len(cluster), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        share[part] = (cluster[neighbors[part]] == cluster[part, None]).mean(axis=1)
    return share


def assignment_columns(
    split: str, assigned: Assignment, names: list[str], neighbors: np.ndarray, heads: np.ndarray | None
) -> dict[str, np.ndarray]:
    """What is known of the N images of a split, as columns (N,).

    names: what to call each cluster. neighbors: int (N, K). heads: float (N,), the share of the averaged heads that
    agree on the image, None where there were none to compare.
    """
    columns = {
        "split": np.full(len(assigned.cluster), split),
        "row": np.arange(len(assigned.cluster)),
        "cluster": assigned.cluster,
        "name": np.array(names, dtype=object)[assigned.cluster],
        "confidence": assigned.confidence.astype(np.float64).round(DIGITS),
        "margin": assigned.margin.astype(np.float64).round(DIGITS),
        "neighbors_agree": neighbors_agree(neighbors, assigned.cluster).round(DIGITS),
    }
    if heads is not None:
        columns["heads_agree"] = heads.astype(np.float64).round(DIGITS)
    return columns


def assignment_table(splits: list[dict[str, np.ndarray]], images: Path) -> dict[str, np.ndarray | list[str]]:
    """The columns of several splits, one below the other, and what the folder of images knows.

    That is the first image that an image is a duplicate of, and the files where there are any. UserError if the table
    of files lacks some.
    """
    columns = {name: np.concatenate([split[name] for split in splits]) for name in splits[0]}
    original = {(copy.split, copy.row): (copy.of_split, copy.of_row) for copy in read_duplicates(images)}
    places = list(zip(columns["split"].tolist(), columns["row"].tolist()))
    first = [original.get(place) for place in places]
    if (path := read_index(images)) is None:
        return columns | {"duplicate_of": [f"{place[0]} {place[1]}" if place else "" for place in first]}
    if missing := [place for place in places if place not in path]:
        raise UserError(
            f"{images}: the table of files lacks {len(missing):,} images, first {missing[0][0]} {missing[0][1]}; run"
            " dvc repro --force download"
        )
    files = {"path": [path[place] for place in places]}
    return files | columns | {"duplicate_of": [path.get(place, "") for place in first]}


def write_assignments(as_csv: Path, as_parquet: Path, columns: dict[str, np.ndarray | list[str]]) -> None:
    """The same table twice: for people and spreadsheets, and for tools."""
    import pandas as pd  # a second, which nobody waits for whose params or inputs are wrong

    with output_file(as_csv) as path:
        write_rows(path, rows_of(columns))
    with output_file(as_parquet) as path:
        for name in columns.keys() & set(FILE_COLUMNS):  # Parquet knows texts only, not any bytes
            texts = [os.fsencode(text).decode(errors="backslashreplace") for text in columns[name]]
            columns = columns | {name: texts}
        pd.DataFrame(columns).to_parquet(path, index=False)


def rows_of(columns: dict[str, np.ndarray | list[str]]) -> Iterator[Sequence]:
    """The names of the columns, and the rows; NaN is nothing there. Few are made at once of however many."""
    yield list(columns)
    for start in range(0, max(map(len, columns.values())), ROWS_AT_ONCE):
        parts = [values[start : start + ROWS_AT_ONCE] for values in columns.values()]
        for row in zip(*(part.tolist() if isinstance(part, np.ndarray) else part for part in parts), strict=True):
            yield [None if value != value else value for value in row]


def confusion_table(counts: np.ndarray, class_of: np.ndarray, classes: list[str]) -> list[Sequence]:
    """A header, and a row for each class: its name, and the shares of its images that its columns name.

    counts: int64 (classes, clusters). class_of: int (clusters,), the class of each cluster, −1 where it has none.
    """
    table, unmatched = confusion_matrix(counts, class_of)
    header = ["class", *classes, *(f"cluster {i}" for i in unmatched)]
    return [header, *([name, *row] for name, row in zip(classes, table.round(6).tolist()))]


def confusion_sample(
    labels: np.ndarray, clusters: np.ndarray, classes: list[str], names: list[str], at_most: int
) -> list[Sequence]:
    """A header, and the class and predicted name of a sample of images, as DVC's confusion template counts them.

    labels, clusters: int (N,). names: what to call each cluster.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(labels))[:at_most])
    return [("actual", "predicted"), *((classes[labels[row]], names[clusters[row]]) for row in rows)]


def write_plots(
    folder: Path, names: list[str], sizes: list[int], purities: dict[int, float], sample: list[Sequence]
) -> None:
    """What DVC draws: sizes.csv of clusters, purity.csv against neighbours, confusion.csv of a sample of images.

    Without labels the latter hold their header alone, for DVC complains of a plot without a file.
    """
    write_rows(folder / "sizes.csv", [("number", "cluster", "images"), *zip(range(len(sizes)), names, sizes)])
    shares = np.round(list(purities.values()), 6).tolist()
    write_rows(folder / "purity.csv", [("k", "purity"), *zip(purities, shares)])
    write_rows(folder / "confusion.csv", sample)


def summary(scores: dict) -> str:
    """The scores in short, and what is missing from them, for whoever watches."""
    import pandas as pd  # as above

    rows = {f"{model} {split}": of for model in MODELS for split, of in scores[model].items()}
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=SHORT).dropna(axis="columns", how="all")
    lines = [table.to_string(float_format="{:.4f}".format, na_rep="-")]
    if scores["embeddings"]:
        lines += ["  ".join(["embeddings:", *(f"{name} {value:.4f}" for name, value in scores["embeddings"].items())])]
    if not scores["labelled"]:
        lines += ["no labels: accuracies, the confusion matrix and the quality of neighbours are left out"]
    missing = [f"purity_{k}" for k in PURITY_AT if f"purity_{k}" not in scores["embeddings"]]
    if scores["labelled"] and missing:
        lines += [f"{', '.join(missing)} left out: train has no labels or too few images"]
    return "\n".join(lines)
