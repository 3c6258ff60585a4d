"""studies.paper: the committed page is what the command writes, and each source of our figures arrives in it."""

import json
import re

import pytest
import yaml
from project import head, params_text

from studies.paper import PUBLISHED, ROWS, page

PUBLISHED_DATASETS = yaml.safe_load(PUBLISHED.read_text())["datasets"]
SCORES = {"test": {"acc": 0.5, "nmi": 0.25, "ari": 0.125, "majority_acc": 0.75}}
METRICS = dict.fromkeys(("kmeans", "scan", "selflabel"), SCORES)


def params(name="cifar10", **changes):
    content = yaml.safe_load(params_text())
    return {**content, "data": {**content["data"], "name": name}, **changes}


@pytest.fixture
def project(tmp_path):
    """Nothing has run."""
    (tmp_path / "reports/runs").mkdir(parents=True)
    (tmp_path / "reports/baselines").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params("cifar10")))
    return tmp_path


def section(project, title="CIFAR-10"):
    text = page(project / "reports", project / "params.yaml")
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def row(text, title):
    return next(line.split(" | ")[-1].strip(" |") for line in text.splitlines() if line.startswith(f"| {title} |"))


def save(project, name, protocol, metrics=METRICS, **more):
    content = {"protocol": protocol, "metrics": metrics, "device": "a machine", **more}
    (project / f"reports/runs/{name}.json").write_text(json.dumps(content))


def test_the_committed_page_is_what_the_command_writes():
    written = page(head() / "reports", head() / "params.yaml")
    assert (head() / "reports/paper.md").read_text() == written, "run `python -m studies.paper` and commit its page"


def test_every_figure_names_where_it_was_read():
    for dataset in PUBLISHED_DATASETS.values():
        assert set(dataset["paper"]) <= set(ROWS)
        for entry in [*dataset["paper"].values(), *dataset.get("others", []), *dataset.get("ablations", [])]:
            assert entry["from"] in ("repository", "issues", "papers", "memory")
            assert set(entry) <= {"name", "figures", "pooled", "from", "clusters", "where"}


def test_what_nobody_has_run_is_called_so(project):
    text = section(project)
    assert row(text, "+ self-label") == "not run"
    assert "This code: not run." in text
    assert "| + self-label | 87.6 / 78.7 / 75.8 | |" in text
    assert "81.8 / 71.2 / 66.5 (m)" in text


def test_the_run_of_params_yaml_and_its_baselines(project):
    (project / "reports/metrics.json").write_text(json.dumps(METRICS))
    (project / "reports/baselines/pixels.json").write_text(json.dumps({"dataset": "cifar10", **SCORES}))
    upper = {"dataset": "cifar10", "test": {"acc": 0.9}}
    (project / "reports/baselines/supervised.json").write_text(json.dumps(upper))
    text = section(project)
    assert row(text, "+ self-label") == "50.0 / 25.0 / 12.5"
    assert row(text, "k-means on pixels") == "50.0 / 25.0 / 12.5"
    assert row(text, "supervised") == "90.0"
    assert row(text, "+ self-label, best") == "not run"
    assert "one run: seed 0, 10 clusters, simclr on small" in text
    assert "not run" in section(project, "STL-10")
    (project / "reports/baselines/pixels.json").write_text(json.dumps({"dataset": "stl10", **SCORES}))
    assert row(section(project), "k-means on pixels") == "not run", "what is left of another dataset's run"


def test_runs_are_told_apart_by_name(project):
    save(project, "cifar10", params("folder"), baselines={"supervised": SCORES})
    save(project, "cifar10-twenty", params("cifar10", clusters=20))
    save(project, "cifar10-rotnet", params("cifar10", pretext={**params()["pretext"], "method": "rotnet"}))
    save(project, "imagenet-1000", params("imagenet-1000", clusters=1000))
    few = params("cifar10", pretext={**params()["pretext"], "method": "instance"})
    few["data"]["limit"] = 1000
    save(project, "cifar10-few", few)
    text = section(project)
    assert "at most 1,000 images a split" in text
    assert row(text, "SCAN") == row(text, "supervised") == "50.0 / 25.0 / 12.5"
    assert row(text, "overclustering") == "75.0 (20 clusters)"
    assert row(text, "pretext RotNet") == "50.0 / 25.0 / 12.5"
    assert row(text, "pretext instance discrimination") == "not run"
    assert "| cifar10-twenty | 50.0 / 25.0 / 12.5 |" in text
    assert "on a machine" in text
    assert row(section(project, "ImageNet, 1,000 classes"), "SCAN") == "50.0 / 25.0 / 12.5"
    assert row(section(project, "ImageNet, 100 classes"), "SCAN") == "not run"


def test_seeds_come_before_a_single_run(project):
    save(project, "cifar10", params("cifar10"))
    prefixed = [f"{prefix}{score}" for prefix in ("kmeans_", "scan_", "") for score in ("acc", "nmi", "ari")]
    rows = {"seeds": [0, 1], **{name: [0.6, 0.8] for name in prefixed}}
    (project / "reports/seeds.json").write_text(json.dumps({"cifar10": rows}))
    text = section(project)
    assert row(text, "+ self-label") == " / ".join(["70.0 ± 14.1"] * 3)
    assert row(text, "+ self-label, best") == "80.0 / 80.0 / 80.0"
    assert "mean ± standard deviation over 2 seeds" in text
