"""The baselines: a pipeline of their own, held to the code as the main one is, and run on the digits."""

import json
import sys

import numpy as np
import pytest
import yaml
from project import ROOT, default_paths, make_project, ran_stages, run, set_params

from baselines import pixels, supervised

BASELINES = yaml.safe_load((ROOT / "baselines/dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("name", BASELINES)
def test_default_paths_are_the_inputs_and_outputs(name):
    """The code among the deps is held to the imports by tests/test_dag.py."""
    assert BASELINES[name]["cmd"] == f"python -m baselines.{name}"
    inputs = [path for path in BASELINES[name]["deps"] if not path.startswith(("stages/", "baselines/"))]
    assert default_paths(f"baselines.{name}") == [*inputs, f"reports/baselines/{name}.json"]


def test_params_are_exactly_what_a_baseline_reads():
    schedule = [f"pretext.{key}" for key in supervised.Schedule.model_fields]
    others = [name for name in supervised.Params.model_fields if name != "pretext"]
    assert sorted(BASELINES["supervised"]["params"]) == sorted(others + schedule)
    assert sorted(BASELINES["pixels"]["params"]) == sorted(pixels.Params.model_fields)


def repro(project, *flags):
    """The stages that `dvc repro` of the baselines runs, or with --dry would run."""
    return sorted(ran_stages(run("dvc", "repro", *flags, "baselines/dvc.yaml", cwd=project).stdout))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which the baselines have run. That plain `dvc repro` runs none of them, test_pipeline sees."""
    project = make_project(tmp_path_factory.mktemp("baselines") / "project")
    set_params(project, {"pretext": {"epochs": 6, "batch_size": 127}})
    run("dvc", "metrics", "show", cwd=project)  # what never ran is no error
    run("dvc", "repro", "download", cwd=project)
    assert repro(project) == ["baselines/dvc.yaml:pixels", "baselines/dvc.yaml:supervised"]
    return project


def scores(project, name):
    return json.loads((project / f"reports/baselines/{name}.json").read_text())


def test_the_baselines_are_as_good_as_they_should_be(project):
    assert scores(project, "supervised")["test"]["acc"] > 0.85
    assert 0.6 < scores(project, "pixels")["test"]["acc"] < 0.9
    assert set(scores(project, "pixels")["test"]) >= {"acc", "nmi", "ari"}
    assert "supervised.json" in run("dvc", "metrics", "show", cwd=project).stdout
    assert not list((project / ".ckpt").glob("*-*")), "finished runs leave no checkpoint"


def test_baselines_rerun_for_what_they_read(project):
    before = (project / "params.yaml").read_text()
    # What only the pretext's own task reads concerns no baseline; its schedule does.
    set_params(project, {"pretext": {"temperature": 0.3, "projection_dim": 8}})
    assert not repro(project, "--dry")
    set_params(project, {"pretext": {"epochs": 1}})
    assert repro(project, "--dry") == ["baselines/dvc.yaml:supervised"]
    (project / "params.yaml").write_text(before)


def test_two_processes_reach_what_one_reaches(project, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    flags = ["--images", "data/images", "--labels", "data/labels", "--out", str(tmp_path / "two.json")]
    said = run(*torchrun, "-m", "baselines.supervised", *flags, cwd=project, DEVICE="cpu").stdout
    assert said.count("supervised: test") == 1, "one process speaks"
    found = json.loads((tmp_path / "two.json").read_text())
    assert found.pop("dataset") == "digits"
    for split in found:
        score = scores(project, "supervised")[split]
        # Rounding differs, and training makes much of it; images counted twice, or not, would make more.
        assert found[split]["acc"] == pytest.approx(score["acc"], abs=0.04)


def test_without_labels_there_is_no_upper_bound_and_no_scores(project, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classes.json").write_text("[]\n")
    flags = ["--images", "data/images", "--labels", str(labels), "--out", str(tmp_path / "out.json")]
    result = run("python", "-m", "baselines.supervised", *flags, cwd=project, check=False)
    assert result.returncode != 0
    assert "has labels of nothing; this needs those of train and test" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert run("python", "-m", "baselines.pixels", *flags, cwd=project).stdout == "pixels: 10 of 10 clusters in use\n"
    assert "acc" not in json.loads((tmp_path / "out.json").read_text())["test"]


def test_large_images_are_reduced_by_areas():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = images.reshape(3, 32, 2, 32, 2, 3).mean(axis=(2, 4)).reshape(3, -1) / 255
    np.testing.assert_allclose(pixels.flat(images), expected, atol=1.01 / 255)  # Pillow rounds after each direction
    small = images[:, :8, :8, :1]
    np.testing.assert_array_equal(pixels.flat(small), small.reshape(3, -1).astype(np.float32) / 255)
