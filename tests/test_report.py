"""report: the same bytes twice, a page that needs nothing but itself, and no dataset that breaks it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_evaluate import NAMES, make_results, run_evaluate, run_stage

from stages import report as stage
from stages.page import exhibit, figures
from stages.page.contents import choose_prototypes, describe, read_findings
from stages.plumbing.csv_files import write_rows
from stages.plumbing.errors import UserError
from stages.scoring.names import read_names

VOID = {"meta", "img", "source", "br", "link", "input"}
FLAGS = ("images", "labels", "pretext", "embeddings", "scan", "selflabel")
WITH_LABELS = {"confusion.png", "curves.png", "prototypes.png", "scores.png"}


@pytest.fixture
def quick_map(monkeypatch):
    """Without t-SNE, which takes a second and is tested in test_exhibit.py."""
    monkeypatch.setattr(exhibit, "plane", lambda vectors: np.asarray(vectors[:, :2], dtype=float))


class Page(HTMLParser):
    """A page's images and text; fails on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.words, self.groups, self.data = [], [], "", [], {}
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "article":
            self.groups.append(int(dict(attrs)["data-cluster"]))
        if tag == "input" and dict(attrs)["type"] == "text":
            self.words += dict(attrs)["placeholder"] + " " + dict(attrs)["value"] + " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"] and data.startswith("{"):
            self.data = json.loads(data)
        elif self.open[-1:] not in (["style"], ["script"]):
            self.words += data


def write_histories(folder: Path) -> None:
    """Histories as the training stages write them: SCAN's in two phases, one with a column that the other lacks."""
    lines = {
        "pretext": ["epoch,lr,loss", "1,0.4,5.5"],
        "scan": ["epoch,lr,loss,entropy,confidence", "1,0.01,-3,2.2,", "2,0.01,-4,2.1,", "1,0.001,-4.5,2.1,0.9"],
        "selflabel": ["epoch,lr,loss,confident share", "1,0.001,0.5,0.6", "2,0.001,0.4,0.7"],
    }
    for stage_name, rows in lines.items():
        (folder / "data" / stage_name / "history.csv").write_text("\n".join(rows) + "\n")


def run_report(folder: Path, prototypes: int = 5) -> Page:
    """Run the stage in this process; the page, checked to be well-formed and self-contained."""
    inputs = {name: folder / "data" / name for name in FLAGS}
    reports = folder / "reports"
    params = stage.Params.model_validate({"report": {"prototypes": prototypes}})
    stage.report(
        **inputs,
        names=folder / "names.yaml",
        metrics=reports / "metrics.json",
        confusion=reports / "confusion.csv",
        figures=reports / "figures",
        page=reports / "index.html",
        params=params,
    )
    text = (reports / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script src|@import|url\((?!\$)", text)
    page = Page(text)
    assert all(image["src"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for image in page.images)
    return page


def make_report(folder: Path, **results) -> Page:
    make_results(folder, **results)
    write_histories(folder)
    run_evaluate(folder)
    return run_report(folder)


def outputs(folder: Path) -> dict[str, bytes]:
    files = [folder / "reports/index.html", *(folder / "reports/figures").iterdir()]
    return {path.name: path.read_bytes() for path in files}


def test_as_a_command_gives_the_same_bytes_again(tmp_path):
    page = make_report(tmp_path)
    first = outputs(tmp_path)
    assert set(first) == WITH_LABELS | {"index.html"}
    assert all(len(content) < 300_000 for name, content in first.items() if name.endswith("png"))
    for name in WITH_LABELS:
        with Image.open(tmp_path / "reports/figures" / name) as image:
            image.load()
            assert min(image.size) > 200
            assert not {key for key in image.info if key != "dpi"}  # no software, no date
    assert len(page.images) == 2, "the confusion matrix, the curves"
    assert page.groups == list(range(10))
    assert all(len(cluster["kinds"]["typical"]) == 5 for cluster in page.data["clusters"])
    for expected in [
        *NAMES,
        "Accuracy",
        "NMI",
        "k-means",
        "Self-label",
        "Among 20 neighbours",
        "420 images in 10 groups",
    ]:
        assert expected in page.words
    assert "<b>7</b>" not in (tmp_path / "reports/index.html").read_text(encoding="utf-8")

    (tmp_path / "params.yaml").write_text("report: {prototypes: 5}\n")
    flags = [part for name in FLAGS for part in (f"--{name}", f"data/{name}")]
    flags += ["--names", "names.yaml", "--metrics", "reports/metrics.json", "--confusion", "reports/confusion.csv"]
    flags += ["--figures", "reports/figures", "--page", "reports/index.html"]
    done = run_stage("report", tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path) == first


def test_a_change_of_the_predictions_shows(tmp_path, quick_map):
    make_report(tmp_path)
    first = outputs(tmp_path)
    path = tmp_path / "data/selflabel/probabilities-test.npy"
    np.save(path, np.load(path)[::-1])
    run_evaluate(tmp_path)
    run_report(tmp_path)
    changed = {name for name, content in outputs(tmp_path).items() if content != first[name]}
    assert changed == {"confusion.png", "prototypes.png", "scores.png", "index.html"}


def test_without_labels_in_colour(tmp_path, quick_map):
    page = make_report(tmp_path, labelled=(), colour=True)
    assert set(outputs(tmp_path)) == {"curves.png", "prototypes.png", "index.html"}
    assert "There are no labels" in page.words
    assert "Accuracy" not in page.words
    assert "cluster 3" in page.words
    assert set(page.data["images"]["truth"]) == {-1}


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_one_split_name_the_groups(tmp_path, split, quick_map):
    page = make_report(tmp_path, labelled=(split,))
    assert set(outputs(tmp_path)) == WITH_LABELS | {"index.html"}
    assert "acht" in page.words
    known = {
        place.split()[0]
        for place, truth in zip(page.data["images"]["place"], page.data["images"]["truth"])
        if truth >= 0
    }
    assert known == {split}


def test_dead_clusters_are_named_and_not_shown(tmp_path, quick_map):
    page = make_report(tmp_path, dead=3)
    assert "420 images in 7 groups" in page.words
    assert "Without images: cluster 7, 8, 9." in page.words
    assert sorted(page.groups) == list(range(7))


def test_a_page_of_very_many_groups_says_what_it_leaves_out(tmp_path, monkeypatch, quick_map):
    monkeypatch.setattr("stages.page.exhibit.SHOWN", 4)
    page = make_report(tmp_path, labelled=())
    assert "6 smaller groups are not shown" in page.words
    assert len(page.groups) == 4


def test_files_of_any_name_are_shown(tmp_path, quick_map):
    make_results(tmp_path, train=30, test=20)
    places = [(split, row) for split, count in (("train", 30), ("test", 20)) for row in range(count)]
    rows = [[*place, f"{place[1]}\r\u202e\udce9</script>.png"] for place in places]
    write_rows(tmp_path / "data/images/index.csv", [["split", "row", "path"], *rows])
    write_histories(tmp_path)
    run_evaluate(tmp_path, knn=2)
    run_report(tmp_path)
    html = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert "29???" in html
    assert "???</script>" not in html


def test_two_clusters(tmp_path, quick_map):
    assert sorted(make_report(tmp_path, clusters=2).groups) == [0, 1]


def test_many_more_clusters_than_classes(tmp_path, quick_map):
    page = make_report(tmp_path, clusters=45, dead=2)
    assert "Majority accuracy" in page.words
    assert len(outputs(tmp_path)["prototypes.png"]) < 300_000


def prototypes_of(folder: Path, count: int) -> list[figures.Prototypes]:
    results = read_findings(*(folder / "data" / name for name in ("images", "labels", "embeddings", "selflabel")))
    clusters = describe(results, read_names(folder / "names.yaml", len(results.assigned.mean), "of the test"))
    return choose_prototypes(results, clusters, count)


def test_prototypes_are_the_most_confident_images_and_the_wrong_ones_are_marked(tmp_path):
    truth = make_results(tmp_path)["test"]
    probabilities = np.load(tmp_path / "data/selflabel/probabilities-test.npy")
    pixels = np.load(tmp_path / "data/images/test.npy")
    cluster = probabilities.argmax(axis=1)
    found = prototypes_of(tmp_path, 4)
    assert [row.name for row in found] == NAMES
    for row in found:
        members = np.flatnonzero(cluster == row.number)
        best = sorted(members, key=lambda image: (-probabilities[image].max(), image))[:4]
        np.testing.assert_array_equal(row.images, pixels[best])
        assert row.wrong.tolist() == [truth[image] != row.number for image in best]
        assert row.size == len(members)
    assert any(row.wrong.any() for row in found)


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_predictions_that_do_not_match(tmp_path, split):
    made = len(make_results(tmp_path)[split])
    path = tmp_path / f"data/images/{split}.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(UserError, match=f"about {made} images.*about {made - 1}"):
        prototypes_of(tmp_path, 4)


def test_photographs_stay_small_enough_for_git():
    noise = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3), dtype=np.uint8)
    row = figures.Prototypes(0, "noise", 12, noise, np.ones(12, bool))
    assert len(figures.prototypes([row] * 10)) <= figures.LIMIT


def test_confusion_of_a_thousand_classes():
    names = [f"class {i}" for i in range(1000)]
    png = figures.confusion(np.eye(1000), names, names)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 300_000
