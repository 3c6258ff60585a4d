"""The README's numbers are those of the committed run."""

import json
import re

import pandas as pd
from project import head

README = (head() / "README.md").read_text()
METRICS = json.loads((head() / "reports/metrics.json").read_text())
ROWS = {"k-means on the embeddings": "kmeans", "SCAN": "scan", "**+ self-labeling**": "selflabel"}


def test_the_measured_table_is_the_committed_run():
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line.startswith("|")
    ]
    found = {line[0]: line[1:] for line in lines if line[0] in ROWS}
    assert set(found) == set(ROWS)
    for name, method in ROWS.items():
        scores = METRICS[method]
        expected = [scores["test"][key] for key in ("acc", "nmi", "ari")] + [scores["train"]["acc"]]
        assert [cell.strip("*") for cell in found[name]] == [f"{100 * value:.1f}" for value in expected]


def test_the_neighbours_named_in_the_text_are_the_committed_run():
    purity, knn = re.search(r"(\d\d\.\d) % of an image's 20 nearest .*?(\d\d\.\d) %", README, re.DOTALL).groups()
    assert purity == f"{100 * METRICS['embeddings']['purity_20']:.1f}"
    assert knn == f"{100 * METRICS['embeddings']['knn_acc']:.1f}"


def test_the_table_of_benchmarks_is_the_committed_one():
    rows = json.loads((head() / "reports/benchmarks.json").read_text())
    for row in rows:
        assert f"| {table_line(row)} |" in README, row["row"]


def table_line(row: dict) -> str:
    """A row of benchmarks.json as the README shows it."""
    target = "" if row["target"] is None else f"{'≤' if row['at_most'] else '≥'} {row['target']:g}"
    numbers = (f"{row[key]:,.4g}" if row[key] < 1000 else f"{row[key]:,.0f}" for key in ("usual", "ours"))
    return " | ".join([row["row"], *numbers, row["unit"], f"**{row['ratio']:.2f}**", target])


def test_the_table_of_scale_is_the_committed_one():
    table = pd.read_csv(head() / "reports/scale.csv")
    for stage, rows in table.groupby("stage"):
        seconds = [f"{value:,.0f}" for value in rows.seconds]
        assert (
            f"| {stage} | {' | '.join(seconds)} | {rows.exponent.iloc[-1]:.2f} | {rows.gigabytes.max():.2f} |" in README
        )


def test_every_picture_and_file_that_the_readme_links_to_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if not target.startswith("http")]
    assert local
    for target in local:
        assert (head() / target).exists(), target
