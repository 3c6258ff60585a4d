"""What is knowable before anything trains is refused then: keys of every stage, their relations, counts, images."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import make_project, ran_stages, run, run_stage, set_params

from commands import preflight
from stages.images.duplicates import Duplicate, write_duplicates
from stages.plumbing.errors import UserError

IMAGES = Path("data/images")
PARAMS = Path("params.yaml")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("preflight") / "project")
    run_stage(project, "download")
    return project


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of the project with the digits in it, which is also where the test runs."""
    shutil.copytree(made, tmp_path / "project", ignore=shutil.ignore_patterns(".git"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def refused(stage="pretext"):
    with pytest.raises(UserError) as error:
        preflight.check_before(stage, PARAMS, IMAGES)
    assert "\n" not in str(error.value)
    assert not preflight.CHECKED.exists(), "what was refused is looked at again"
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"evaluate": {"knn": 0}}, "evaluate.knn = 0"),
        ({"report": {"prototypes": "many"}}, "report.prototypes = 'many'"),
        ({"selflabel": {"treshold": 0.5}}, "selflabel.treshold is not a known key; did you mean threshold?"),
        ({"selflabel": {"threshold": 1.0}}, "selflabel.threshold = 1.0"),
        ({"scan": {"train": "heads", "head_epochs": 0}}, "needs head_epochs of 1 or more"),
        ({"embed": {"layer": "projection"}, "pretext": {"method": "rotnet"}}, "has no projection; set embed.layer"),
        (
            {"embed": {"layer": "projection"}, "pretext": {"method": "frozen", "weights": "x.pt"}},
            "pretext.method = frozen has no projection",
        ),
        ({"pretext": {"method": "embeddings", "weights": "x"}}, "set scan.train: heads and selflabel.epochs: 0"),
        ({"clusters": 2000}, "clusters = 2000, but only 1,437 of the 1,437 training images are different"),
        ({"mine": {"k": 1437}}, "mine.k = 1437, but there are 1,437 training images, so each has 1436 others"),
        ({"data": {"image_size": 12}}, "images of 8x8, but data.image_size = 12; run dvc repro --force download"),
        ({"data": {"name": "mnist"}}, "holds digits, but data.name = mnist; run dvc repro download"),
        ({"data": {"limit": "many"}}, "data.limit = 'many'"),
        ({"data": {"limit": 100}}, "1,437 images of train, but data.limit = 100"),
    ],
)
def test_a_mistake_of_any_stage_is_told_by_the_first_one_that_would_train(project, changes, expected):
    set_params(project, changes)
    assert expected in refused()


def test_names_that_cannot_be_read_are_told_before_the_training_they_name(project):
    (project / "names.yaml").write_text("clusters: {0: [merge, x]}\n")
    assert "cluster 0 is ['merge', 'x']" in refused()


def test_copies_do_not_count_as_different_images(project):
    copies = [Duplicate("train", row, "train", 0, "exact") for row in range(1, 1437)]
    write_duplicates(project / IMAGES, copies)
    assert "all 1,437 training images are copies of one" in refused()
    write_duplicates(project / IMAGES, copies[:1430])
    assert "clusters = 10, but only 7 of the 1,437 training images are different; lower clusters to 7" in refused()
    set_params(project, {"clusters": 7})
    preflight.check_before("pretext", PARAMS, IMAGES)


def test_what_is_in_order_is_looked_at_once(project, monkeypatch):
    preflight.check_before("pretext", PARAMS, IMAGES)
    monkeypatch.setattr(preflight, "check_params", lambda _: pytest.fail("again"))
    preflight.check_before("scan", PARAMS, IMAGES)
    set_params(project, {"mine": {"k": 9}})
    with pytest.raises(pytest.fail.Exception, match="again"):
        preflight.check_before("scan", PARAMS, IMAGES)
    preflight.check_before("evaluate", PARAMS, IMAGES)  # nothing trains after it, so it has its own params to read


def test_dvc_repro_stops_before_the_training_and_again_after_a_change(project):
    run("git", "init", "--quiet", cwd=project)
    set_params(project, {"evaluate": {"knn": -1}})
    done = run("dvc", "repro", cwd=project, check=False)
    assert done.returncode
    assert "pretext: params.yaml: evaluate.knn = -1" in done.stderr
    assert ran_stages(done.stdout) == ["download", "pretext"]
    assert "pretext: 2 of 9 · " in done.stdout
    assert not (project / "data/pretext").exists()
    # As DVC's run cache once did: another image_size, and the images of before.
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["evaluate"]["knn"], params["data"]["image_size"] = 5, 16
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    alone = run("dvc", "repro", "--single-item", "pretext", cwd=project, check=False)
    assert "pretext: data/images holds images of 8x8, but data.image_size = 16" in alone.stderr
    assert np.load(project / "data/images/train.npy", mmap_mode="r").shape[1] == 8


def test_the_same_as_a_command_before_anything_has_run(project):
    done = run(sys.executable, "-m", "commands.preflight", cwd=project)
    assert done.stdout == "preflight: params.yaml is in order\n"
    set_params(project, {"scan": {"lr": -1.0}})
    done = run(sys.executable, "-m", "commands.preflight", cwd=project, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("preflight: params.yaml: scan.lr = -1.0")
    assert done.stderr.count("\n") == 1
