"""The baselines: a pipeline of their own, held to the code as the main one is, and run on the digits."""

import json
import shlex

import numpy as np
import pytest
import yaml
from project import ROOT, local_imports, make_project, ran_stages, run, set_params

from stages import pixels, supervised

BASELINES = yaml.safe_load((ROOT / "baselines/dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("name", BASELINES)
def test_deps_are_the_modules_that_a_baseline_imports_and_its_inputs(name):
    deps = BASELINES[name]["deps"]
    imported = {path for path in local_imports(ROOT / "stages" / f"{name}.py") if not path.endswith("__init__.py")}
    assert {path for path in deps if path.endswith(".py")} == imported
    command = shlex.split(BASELINES[name]["cmd"])
    assert command[:3] == ["python", "-m", f"stages.{name}"]
    inputs = [path for path in deps if not path.endswith(".py")]
    assert command[4::2] == [*inputs, f"reports/baselines/{name}.json"]


def test_params_are_exactly_what_a_baseline_reads():
    schedule = [f"pretext.{key}" for key in supervised.Schedule.model_fields]
    others = [name for name in supervised.Params.model_fields if name != "pretext"]
    assert sorted(BASELINES["supervised"]["params"]) == sorted(others + schedule)
    assert sorted(BASELINES["pixels"]["params"]) == sorted(pixels.Params.model_fields)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("baselines") / "project")
    set_params(project, {"pretext": {"epochs": 6}})
    run("dvc", "repro", "download", cwd=project)
    return project


def test_the_two_baselines_run_and_plain_repro_knows_nothing_of_them(project):
    def repro():
        return sorted(ran_stages(run("dvc", "repro", "baselines/dvc.yaml", cwd=project).stdout))

    assert repro() == ["baselines/dvc.yaml:pixels", "baselines/dvc.yaml:supervised"]
    found = {name: json.loads((project / f"reports/baselines/{name}.json").read_text()) for name in BASELINES}
    assert found["supervised"]["test"]["acc"] > 0.85
    assert 0.6 < found["pixels"]["test"]["acc"] < 0.9
    assert set(found["pixels"]["test"]) >= {"acc", "nmi", "ari"}
    metrics = run("dvc", "metrics", "show", cwd=project).stdout
    assert "supervised.json" in metrics
    assert not ran_stages(run("dvc", "repro", "download", cwd=project).stdout)
    # What only the pretext's own task reads concerns no baseline; its schedule does.
    set_params(project, {"pretext": {"temperature": 0.3, "projection_dim": 8}})
    assert not repro()
    set_params(project, {"pretext": {"epochs": 1}})
    assert ran_stages(run("dvc", "repro", "baselines/dvc.yaml", cwd=project).stdout) == [
        "baselines/dvc.yaml:supervised"
    ]


def test_without_labels_there_is_no_upper_bound_and_no_scores(project, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classes.json").write_text("[]\n")
    flags = ["--images", "data/images", "--labels", str(labels), "--out", str(tmp_path / "out.json")]
    result = run("python", "-m", "stages.supervised", *flags, cwd=project, check=False)
    assert result.returncode != 0
    assert "has labels of nothing; this needs those of train and test" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    run("python", "-m", "stages.pixels", *flags, cwd=project)
    assert "acc" not in json.loads((tmp_path / "out.json").read_text())["test"]


def test_large_images_are_reduced_by_areas():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    expected = images.reshape(3, 32, 2, 32, 2, 3).mean(axis=(2, 4)).reshape(3, -1) / 255
    np.testing.assert_allclose(pixels.flat(images), expected, atol=1.01 / 255)  # Pillow rounds after each direction
    small = images[:, :8, :8, :1]
    np.testing.assert_array_equal(pixels.flat(small), small.reshape(3, -1).astype(np.float32) / 255)
