"""evaluate end to end, on results made up from the digits: with labels, without, and with everything in between."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from stages import evaluate as stage
from stages.images.duplicates import Duplicate, write_duplicates
from stages.images.store import write_images, write_labels
from stages.plumbing.csv_files import read_rows, write_rows
from stages.plumbing.errors import UserError
from stages.scoring import purity

ROOT = Path(__file__).resolve().parents[1]
INPUTS = ("images", "labels", "embeddings", "neighbors", "kmeans", "scan", "selflabel")
OUTPUTS = {"metrics": "metrics.json", "confusion": "confusion.csv", "assignments": "assignments.csv"}
OUTPUTS |= {"parquet": "assignments.parquet", "plots": "plots", "computed": "computed.json"}
LABEL_FREE = {"clusters_alive", "largest", "smallest", "sizes"}
NAMES = ["zero", "one, or first", "two", 'the "three"', "4", "NA", "six $x", "<b>7</b>", "acht", "neun ü"]


def make_results(
    folder: Path,
    clusters: int = 10,
    labelled: tuple[str, ...] = ("train", "test"),
    dead: int = 0,
    wrong: float = 0.2,
    train: int = 300,
    test: int = 120,
    colour: bool = False,
) -> dict[str, np.ndarray]:
    """Everything that evaluate and report read, as the stages before them would write it; returns the true classes.

    The clusters are the digits modulo `clusters − dead`, a share `wrong` of them at random, so that no more than
    `clusters − dead` are in use.
    """
    rng = np.random.default_rng(0)
    digits = load_digits()
    rows = {"train": slice(0, train), "test": slice(train, train + test)}
    truth = {split: digits.target[part] for split, part in rows.items()}
    for name in (*INPUTS, "pretext"):
        (folder / "data" / name).mkdir(parents=True)
    pixels = (digits.images * 15.9).astype(np.uint8)[..., None]
    pixels = np.concatenate([pixels, pixels // 2, 255 - pixels], axis=-1) if colour else pixels
    write_images(folder / "data/images", "digits", {split: pixels[part] for split, part in rows.items()}, "made up")
    write_labels(folder / "data/labels", {split: truth[split] for split in labelled}, NAMES if labelled else [])
    vectors = (digits.data / np.linalg.norm(digits.data, axis=1, keepdims=True)).astype(np.float32)
    alive = clusters - dead
    for split, part in rows.items():
        count = len(truth[split])
        random = rng.random(count) < wrong
        cluster = np.where(random, rng.integers(0, alive, count), truth[split] + 10 * rng.integers(0, 3, count)) % alive
        np.save(folder / "data/embeddings" / f"{split}.npy", vectors[part])
        np.save(folder / "data/kmeans" / f"{split}.npy", cluster.astype(np.int32))
        for name, sharpness in (("scan", 3), ("selflabel", 8)):
            logits = sharpness * np.eye(clusters)[cluster] + rng.random((count, clusters))
            soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            np.save(folder / "data" / name / f"probabilities-{split}.npy", soft.astype(np.float16))
        near = np.argsort(-vectors[part] @ vectors[part].T, axis=1)[:, 1:6]
        np.save(folder / "data/neighbors" / f"{split}.npy", near.astype(np.int32))
        np.save(folder / "data/scan" / f"agreement-{split}.npy", rng.integers(0, 11, count).astype(np.float16) / 10)
    write_duplicates(folder / "data/images", [])
    made_by = {"device": "cpu", "processor": "x86_64 AVX512", "precision": "float32", "torch": "2.14.1"}
    metas = {"embeddings": {"layer": "backbone", "embed": made_by}, "scan": {"scan": made_by}, "selflabel": {}}
    for name, meta in metas.items():
        (folder / f"data/{name}/meta.json").write_text(json.dumps(meta))
    (folder / "data/selflabel/model.pt").write_bytes(b"weights")
    (folder / "names.yaml").write_text("clusters: {}\n")
    return truth


def written(folder: Path) -> dict[str, bytes]:
    """Everything in reports/."""
    files = sorted(path for path in (folder / "reports").rglob("*") if path.is_file())
    return {path.relative_to(folder / "reports").as_posix(): path.read_bytes() for path in files}


def read_table(folder: Path) -> pd.DataFrame:
    """assignments.csv."""
    return pd.read_csv(folder / "reports/assignments.csv", keep_default_na=False)


def run_evaluate(folder: Path, knn: int = 20, sample: int = 10000, seed: int = 0) -> dict:
    """Run the stage in this process; the metrics."""
    params = stage.Params.model_validate({"seed": seed, "evaluate": {"knn": knn, "sample": sample}})
    inputs = {name: folder / "data" / name for name in INPUTS}
    outputs = {name: folder / "reports" / file for name, file in OUTPUTS.items()}
    stage.evaluate(**inputs, names=folder / "names.yaml", **outputs, params=params)
    return json.loads(outputs["metrics"].read_text())


def run_stage(name: str, folder: Path, *flags: str) -> subprocess.CompletedProcess:
    """Run a stage as DVC would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"stages.{name}", *flags]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def read_confusion(folder: Path) -> tuple[list[str], list[str], np.ndarray]:
    """The classes, the columns and the numbers of confusion.csv."""
    with (folder / "reports/confusion.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header[0] == "class"
    return [line[0] for line in lines], header[1:], np.array([line[1:] for line in lines], dtype=float)


def numbers(value: object) -> list[float]:
    """All floats of nested metrics."""
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    return [value] if isinstance(value, float) else []


def test_as_a_command_with_labels(tmp_path):
    truth = make_results(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\nevaluate: {knn: 20, sample: 10000}\n")
    flags = [part for name in INPUTS for part in (f"--{name}", f"data/{name}")] + ["--names", "names.yaml"]
    flags += [part for name, file in OUTPUTS.items() for part in (f"--{name}", f"reports/{file}")]
    done = run_stage("evaluate", tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert all(word in done.stdout for word in ("selflabel test", "acc", "nmi", "purity_20", "knn_acc"))
    first = written(tmp_path)

    found = json.loads(first["metrics.json"])
    assert found["labelled"] is True
    assert set(found["kmeans"]["test"]) == {"acc", "nmi", "ari", "ami", "recall"} | LABEL_FREE
    soft = set(found["kmeans"]["test"]) | {"confidence", "confident", "entropy", "top5"}
    assert set(found["scan"]["train"]) == set(found["selflabel"]["test"]) == soft
    assert set(found["embeddings"]) == {"purity_1", "purity_5", "purity_20", "knn_acc"}
    assert all(0 <= number <= 1 and number == round(number, 6) for number in numbers(found))
    # The clusters are the digits themselves where they are not random, so the matching is known.
    cluster = np.load(tmp_path / "data/selflabel/probabilities-test.npy").argmax(axis=1)
    result = found["selflabel"]["test"]
    assert result["acc"] == pytest.approx(np.mean(cluster == truth["test"]), abs=1e-6)
    for digit, name in enumerate(NAMES):
        right = np.mean(cluster[truth["test"] == digit] == digit)
        assert result["recall"][name] == pytest.approx(right, abs=1e-6)
    assert 0.7 < result["acc"] < 0.95
    assert 0.7 < found["embeddings"]["purity_20"] < found["embeddings"]["purity_1"] <= 1

    classes, columns, table = read_confusion(tmp_path)
    assert classes == columns == NAMES
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.diag(table), list(result["recall"].values()), atol=1e-6)

    images = read_table(tmp_path)
    about = ["cluster", "name", "confidence", "margin", "neighbors_agree", "heads_agree", "duplicate_of"]
    assert list(images) == ["split", "row", *about]
    assert len(images) == 420
    of_test = images[images["split"] == "test"]
    np.testing.assert_array_equal(of_test["row"], np.arange(120))
    np.testing.assert_array_equal(of_test["cluster"], cluster)
    assert of_test["name"].tolist() == [NAMES[i] for i in cluster]
    assert (of_test["margin"] <= of_test["confidence"]).all()
    near = np.load(tmp_path / "data/neighbors/test.npy")
    agree = [np.mean([cluster[j] == cluster[i] for j in near[i]]) for i in range(120)]
    np.testing.assert_allclose(of_test["neighbors_agree"], agree, atol=1e-4)
    np.testing.assert_allclose(of_test["heads_agree"], np.load(tmp_path / "data/scan/agreement-test.npy"), atol=1e-3)
    same = pd.read_parquet(tmp_path / "reports/assignments.parquet")
    pd.testing.assert_frame_equal(images, same.reset_index(drop=True), check_dtype=False)

    plots = {path.stem: pd.read_csv(path, keep_default_na=False) for path in (tmp_path / "reports/plots").iterdir()}
    assert plots["sizes"]["images"].tolist() == np.bincount(cluster, minlength=10).tolist()
    assert plots["sizes"]["cluster"].tolist() == NAMES
    assert plots["purity"]["k"].tolist() == [1, 2, 3, 5, 10, 20, 30, 50]
    assert plots["purity"].set_index("k")["purity"][20] == found["embeddings"]["purity_20"]
    counted = pd.crosstab(plots["confusion"]["actual"], plots["confusion"]["predicted"], normalize="index")
    np.testing.assert_allclose(np.diag(counted.loc[NAMES, NAMES]), list(result["recall"].values()), atol=1e-6)

    run_evaluate(tmp_path)
    assert first == written(tmp_path)


def test_without_labels(tmp_path, capsys):
    make_results(tmp_path, labelled=())
    found = run_evaluate(tmp_path)
    assert found["labelled"] is False
    assert set(found["kmeans"]["test"]) == LABEL_FREE
    assert set(found["selflabel"]["train"]) == LABEL_FREE | {"confidence", "confident", "entropy"}
    assert found["embeddings"] == {}
    assert "no labels" in capsys.readouterr().out
    assert read_confusion(tmp_path)[0] == []
    images = read_table(tmp_path)
    assert (images["name"] == "cluster " + images["cluster"].astype(str)).all()
    assert (tmp_path / "reports/plots/confusion.csv").read_text() == "actual,predicted\n"
    assert (tmp_path / "reports/plots/purity.csv").read_text() == "k,purity\n"
    assert len(images) == 420


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_one_split(tmp_path, split):
    truth = make_results(tmp_path, labelled=(split,))
    other = {"train": "test", "test": "train"}[split]
    found = run_evaluate(tmp_path)
    assert found["labelled"] is True
    assert 0.7 < found["selflabel"][split]["acc"] < 1
    assert "acc" not in found["selflabel"][other]
    assert set(found["embeddings"]) == ({"purity_1", "purity_5", "purity_20"} if split == "train" else set())
    assert read_confusion(tmp_path)[2].shape == (10, 10)
    images = read_table(tmp_path)
    named = images[images["split"] == other]["name"].map(NAMES.index)
    assert np.mean(named == truth[other]) > 0.7


def test_dead_clusters(tmp_path):
    make_results(tmp_path, dead=3)
    found = run_evaluate(tmp_path)["selflabel"]["test"]
    assert found["clusters_alive"] == 7
    assert found["smallest"] == 0
    assert found["sizes"][7:] == [0, 0, 0]
    assert found["acc"] < 0.7
    assert found["entropy"] < 1
    # Three classes found no cluster: nothing is predicted as them, and no empty cluster passes for them.
    table = read_confusion(tmp_path)[2]
    assert table.shape == (10, 10)
    assert sum(table.sum(axis=0) == 0) == 3


def test_two_clusters(tmp_path):
    make_results(tmp_path, clusters=2)
    found = run_evaluate(tmp_path)["selflabel"]["test"]
    assert found["acc"] < 0.3
    assert "majority_acc" not in found
    assert sum(value > 0 for value in found["recall"].values()) == 2


def test_more_clusters_than_classes(tmp_path, capsys):
    make_results(tmp_path, clusters=30)
    found = run_evaluate(tmp_path)
    for model in ("kmeans", "scan", "selflabel"):
        for split in ("test", "train"):
            assert found[model][split]["acc"] < 0.7 < found[model][split]["majority_acc"]
    header, *rows = capsys.readouterr().out.splitlines()
    column = header.split().index("majority_acc") + 2  # a row begins with the model and the split
    assert [row.split()[column] for row in rows[:6:2]] == [
        f"{found[model]['test']['majority_acc']:.4f}" for model in ("kmeans", "scan", "selflabel")
    ]
    _, columns, table = read_confusion(tmp_path)
    assert columns[:10] == NAMES
    assert len(columns) == 30
    assert all(name.startswith("cluster ") for name in columns[10:])
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)
    images = read_table(tmp_path)
    assert images.groupby("name")["cluster"].nunique()[NAMES].tolist() == [1] * 10
    assert images["name"].str.startswith("cluster ").any()


def test_the_sample_bounds_the_search_and_the_seed_draws_it(tmp_path, monkeypatch):
    make_results(tmp_path)
    asked = []
    searched = purity.purity
    monkeypatch.setattr(purity, "purity", lambda *arguments: asked.append(arguments[2]) or searched(*arguments))
    first = run_evaluate(tmp_path, sample=50)["embeddings"]
    assert len(asked[0]) == len(set(asked[0])) == 50
    assert run_evaluate(tmp_path, sample=50)["embeddings"] == first
    assert run_evaluate(tmp_path, sample=50, seed=1)["embeddings"] != first


def test_few_images_leave_purity_out_and_it_is_said(tmp_path, capsys):
    make_results(tmp_path, train=20, test=10)
    assert set(run_evaluate(tmp_path, knn=5)["embeddings"]) == {"purity_1", "purity_5", "knn_acc"}
    assert "purity_20 left out" in capsys.readouterr().out
    many, all_others = (run_evaluate(tmp_path, knn=knn)["embeddings"]["knn_acc"] for knn in (21, 20))
    assert many == all_others, "an image has no more neighbours than there are, which is no reason to give up a run"
    assert "evaluate.knn = 21 cut to 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["labels/train", "kmeans/test", "scan/probabilities-train", "selflabel/probabilities-test"]
)
def test_counts_that_do_not_match(tmp_path, name):
    make_results(tmp_path)
    path = tmp_path / "data" / f"{name}.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(UserError, match=rf"{path.parent.name} is about (119|299) images"):
        run_evaluate(tmp_path)
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_without_a_name(tmp_path, label):
    make_results(tmp_path)
    path = tmp_path / "data/labels/test.npy"
    np.save(path, np.append(np.load(path)[1:], label))
    with pytest.raises(UserError, match=r"test\.npy has labels from .*names 10 classes"):
        run_evaluate(tmp_path)


def test_assignments_name_the_files_of_a_folder(tmp_path):
    make_results(tmp_path, labelled=(), train=3, test=2)
    names = [
        ("train", 0, "b/NA"),
        ("train", 1, "a.png"),
        ("train", 2, "ü, ö.jpg"),
        ("test", 0, "c.png"),
        ("test", 1, "d"),
    ]
    lines = [f'{split},{row},"{path}"' for split, row, path in reversed(names)]
    (tmp_path / "data/images/index.csv").write_text("\n".join(["split,row,path", *lines, "unlabeled,0,u.png"]) + "\n")
    run_evaluate(tmp_path, knn=2)
    table = read_table(tmp_path)
    assert table.columns[0] == "path"
    assert sorted(zip(table.split, table.row, table.path)) == sorted(names)


def test_any_file_is_named_as_it_is_and_tables_are_as_pandas_writes_them(tmp_path):
    make_results(tmp_path, train=30, test=20)
    places = [(split, row) for split, count in (("train", 30), ("test", 20)) for row in range(count)]
    odd = dict(zip(places, ["a\rb", "\r\n", " a", "=1", "\u2028", "\t", 'a"b', "\x1b"]))
    write_rows(
        tmp_path / "data/images/index.csv", [["split", "row", "path"], *([*at, odd.get(at, f"{at}")] for at in places)]
    )
    run_evaluate(tmp_path, knn=2)
    header, *rows = read_rows(tmp_path / "reports/assignments.csv")
    assert {(row[1], int(row[2])): row[0] for row in rows} == {at: odd.get(at, f"{at}") for at in places}
    same = pd.read_parquet(tmp_path / "reports/assignments.parquet")
    assert [*same.columns] == header
    assert same["path"].tolist() == [row[0] for row in rows]
    # As the table was written before it had a writer of its own, where no cell needs quotes that pandas would not set.
    np.save(tmp_path / "data/neighbors/test.npy", np.empty((20, 0), np.int32))
    (tmp_path / "data/images/index.csv").unlink()
    run_evaluate(tmp_path, knn=2)
    same = pd.read_parquet(tmp_path / "reports/assignments.parquet")
    text = (tmp_path / "reports/assignments.csv").read_text(encoding="utf-8")
    assert text == same.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("split,row,path\ntrain,0,a\rb\n", "index.csv, line 3: 1 cells below 3 names of columns"),
        ("split,row,path\ntrain,0,a\n", "the table of files lacks 49 images, first train 1"),
    ],
)
def test_a_table_of_files_that_is_broken_is_told(tmp_path, content, message):
    make_results(tmp_path, train=30, test=20)
    (tmp_path / "data/images/index.csv").write_bytes(content.encode())
    with pytest.raises(UserError, match=message):
        run_evaluate(tmp_path, knn=2)


def test_names_that_people_gave(tmp_path, capsys):
    make_results(tmp_path)
    (tmp_path / "names.yaml").write_text("clusters: {0: sneaker, 3: [merge, 7], 5: junk, 8: sneaker}\n")
    found = run_evaluate(tmp_path)
    images = read_table(tmp_path)
    called = images.drop_duplicates("cluster").set_index("cluster")["name"]
    assert called[[0, 8, 5, 2]].tolist() == ["sneaker", "sneaker", "junk", "two"]
    assert called[3] == called[7] == NAMES[3], "merged without a name: that of the first"
    of_test = images[images["split"] == "test"]
    assert found["names"]["groups"] == 7
    assert found["names"]["junk"] == pytest.approx(np.mean(of_test["cluster"] == 5), abs=1e-6)
    assert found["names"]["unnamed"] == pytest.approx(np.mean(~of_test["cluster"].isin([0, 5, 8])), abs=1e-6)
    scores = run_evaluate(tmp_path)["selflabel"]
    (tmp_path / "names.yaml").write_text("model: another\nclusters: {0: sneaker}\n")
    assert run_evaluate(tmp_path)["selflabel"] == scores, "names are no scores"
    assert "written for another model" in capsys.readouterr().out
    assert "sneaker" not in set(read_table(tmp_path)["name"])


def test_duplicates_are_named(tmp_path):
    make_results(tmp_path, train=30, test=20)
    write_duplicates(
        tmp_path / "data/images", [Duplicate("train", 9, "train", 2, "exact"), Duplicate("test", 0, "train", 2, "near")]
    )
    run_evaluate(tmp_path, knn=2)
    images = read_table(tmp_path).set_index(["split", "row"])["duplicate_of"]
    assert images[("train", 9)] == images[("test", 0)] == "train 2"
    assert (images != "").sum() == 2
    lines = [
        f"{split},{row},{split}/{row}\udce9.png"
        for split, count in (("train", 30), ("test", 20))
        for row in range(count)
    ]
    text = "\n".join(["split,row,path", *lines]) + "\n"
    (tmp_path / "data/images/index.csv").write_bytes(text.encode(errors="surrogateescape"))
    run_evaluate(tmp_path, knn=2)
    raw = (tmp_path / "reports/assignments.csv").read_bytes()
    assert raw.count(b"train/2\xe9.png") == 3
    same = pd.read_parquet(tmp_path / "reports/assignments.parquet")
    assert set(same["duplicate_of"]) == {"", "train/2\\xe9.png"}


def test_without_heads_or_neighbours_to_compare(tmp_path):
    make_results(tmp_path, train=30, test=20)
    for split in ("train", "test"):
        (tmp_path / f"data/scan/agreement-{split}.npy").unlink()
    np.save(tmp_path / "data/neighbors/test.npy", np.empty((20, 0), np.int32))
    run_evaluate(tmp_path, knn=2)
    images = read_table(tmp_path)
    assert "heads_agree" not in images
    assert set(images[images["split"] == "test"]["neighbors_agree"]) == {""}
