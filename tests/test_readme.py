"""The README's numbers are those of the committed run."""

import json
import re

from project import ROOT

README = (ROOT / "README.md").read_text()
METRICS = json.loads((ROOT / "reports/metrics.json").read_text())
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


def test_every_picture_and_file_that_the_readme_links_to_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if not target.startswith("http")]
    assert local
    for target in local:
        assert (ROOT / target).exists(), target
