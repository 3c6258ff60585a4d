"""Real `dvc repro` on the digits in temporary projects: what reruns, what is shared, what is the same to the byte."""

import json
import shlex
import shutil

import pytest
from project import PIPELINE, STAGES, commit, contents, make_project, ran_stages, run, run_stage, set_params

TRAINED = ["data/pretext", "data/embeddings", "data/neighbors", "data/kmeans", "data/scan", "data/selflabel"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project that has run once and is committed. Tests that change something work on a copy."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project")
    assert ran_stages(run("dvc", "repro", cwd=project).stdout) == STAGES
    commit(project, "first run")
    return project


@pytest.fixture
def project(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def test_a_run_leaves_everything_that_is_promised(finished):
    metrics = json.loads((finished / "reports/metrics.json").read_text())
    for method in ("kmeans", "scan", "selflabel"):
        for split in ("test", "train"):
            scores = metrics[method][split]
            for name in ("acc", "nmi", "ari", "ami"):
                assert -1 <= scores[name] <= 1
            assert 1 <= scores["clusters_alive"] <= 10
    for name in ("purity_1", "purity_5", "purity_20", "knn_acc"):
        assert 0 <= metrics["embeddings"][name] <= 1
    for stage in ("pretext", "scan", "selflabel"):
        assert (finished / f"data/{stage}/history.csv").read_text().startswith("epoch,lr,loss")
    assert (finished / "reports/index.html").stat().st_size > 10_000
    assert not list(finished.rglob("*.partial")), "something half-written is left"
    assert not list((finished / ".ckpt").glob("*-*")), "a checkpoint of finished work is left"
    tracked = run("git", "ls-files", cwd=finished).stdout.split()
    assert "reports/metrics.json" in tracked
    assert "reports/figures/prototypes.png" in tracked
    assert not any(name.startswith("data/") and name != "data/.gitignore" for name in tracked)


def test_even_a_tiny_run_beats_chance(finished):
    metrics = json.loads((finished / "reports/metrics.json").read_text())
    assert metrics["embeddings"]["knn_acc"] > 0.7
    assert metrics["scan"]["test"]["acc"] > 0.3


def test_a_second_repro_runs_nothing(finished):
    output = run("dvc", "repro", cwd=finished).stdout
    assert not ran_stages(output)
    assert run("git", "status", "--porcelain", cwd=finished).stdout == ""


def test_entropy_weight_reruns_scan_and_what_follows_and_the_diffs_show_it(project):
    output = run("dvc", "exp", "run", "-S", "scan.entropy_weight=5", cwd=project).stdout
    assert ran_stages(output) == ["scan", "selflabel", "evaluate", "report"]
    params = run("dvc", "params", "diff", cwd=project).stdout
    assert [line.split()[1:] for line in params.splitlines() if "entropy" in line] == [
        ["scan.entropy_weight", "4.0", "5"]
    ]
    metrics = json.loads(run("dvc", "metrics", "diff", "--json", cwd=project).stdout)["reports/metrics.json"]
    assert any(name.startswith("scan.test") for name in metrics)
    assert not any(name.startswith("kmeans") for name in metrics), "the baseline does not read scan's params"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("mine.k=7", ["mine", "scan", "selflabel", "evaluate", "report"]),
        ("selflabel.threshold=0.4", ["selflabel", "evaluate", "report"]),
        ("evaluate.knn=5", ["evaluate", "report"]),
        ("report.prototypes=3", ["report"]),
    ],
)
def test_a_parameter_reruns_exactly_what_depends_on_it(project, change, expected):
    assert ran_stages(run("dvc", "exp", "run", "-S", change, cwd=project).stdout) == expected


def test_naming_clusters_reruns_the_scores_and_the_page_alone(project):
    (project / "names.yaml").write_text("clusters: {0: ring, 1: [merge, 2], 3: junk}\n")
    assert ran_stages(run("dvc", "repro", cwd=project).stdout) == ["evaluate", "report"]
    table = (project / "reports/assignments.csv").read_text()
    assert ",0,ring," in table
    assert ",3,junk," in table


def test_a_clone_that_pulls_has_nothing_to_run(project, tmp_path):
    run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"), cwd=project)
    commit(project, "share")
    run("dvc", "push", cwd=project)
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", str(project), str(clone), cwd=tmp_path)
    assert not ran_stages(run("dvc", "repro", "--allow-missing", "--dry", cwd=clone).stdout)
    run("dvc", "pull", cwd=clone)
    assert not ran_stages(run("dvc", "repro", cwd=clone).stdout)
    assert contents(clone, *TRAINED) == contents(project, *TRAINED)
    assert (clone / "reports/index.html").read_bytes() == (project / "reports/index.html").read_bytes()


def test_shuffled_labels_change_scores_and_not_one_byte_of_what_is_trained(project):
    """Everything is trained again, so this also shows that the same seed gives the same bytes."""
    source = project / "stages/images/store.py"
    shuffled = "values.astype(np.int64)[np.random.default_rng(0).permutation(len(values))]"
    text = source.read_text()
    assert "values.astype(np.int64)" in text
    source.write_text(text.replace("values.astype(np.int64)", shuffled))
    before, scores = contents(project, *TRAINED), json.loads((project / "reports/metrics.json").read_text())
    assert ran_stages(run("dvc", "repro", "--force", "--no-run-cache", cwd=project).stdout) == STAGES
    assert contents(project, *TRAINED) == before
    after = json.loads((project / "reports/metrics.json").read_text())
    assert after["embeddings"]["knn_acc"] < 0.3 < scores["embeddings"]["knn_acc"], "the labels were not shuffled"


def test_another_seed_gives_another_result(project):
    set_params(project, {"seed": 1})
    before = contents(project, "data/pretext")
    run("dvc", "repro", "pretext", cwd=project)
    assert contents(project, "data/pretext") != before


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        ({"mine": {"kk": 20}}, "mine", "mine.kk is not a known key; did you mean k?"),
        ({"mine": {"k": 2000}}, "mine", "mine.k = 2000"),
        ({"clusters": 2000}, "kmeans", "clusters = 2000"),
        ({"clusters": 2000}, "scan", "clusters = 2000"),
        ({"selflabel": {"threshold": 1.5}}, "selflabel", "selflabel.threshold = 1.5"),
        ({"selflabel": {"threshold": 0.999999}}, "selflabel", "selflabel.threshold = 0.999999; lower it"),
        ({"pretext": {"lr": "1e-4"}}, "pretext", "write 1.0e-4"),
        ({"pretext": {"lr": 1.0e6, "epochs": 3}}, "pretext", "lower its lr"),
        ({"views": {"zoom": [1.1, 0.8]}}, "pretext", "views.zoom"),
    ],
)
def test_bad_params_end_in_one_line_and_leave_the_last_result_alone(project, change, stage, message):
    set_params(project, change)
    before = contents(project, "data")
    result = run(*shlex.split(PIPELINE[stage]["cmd"]), cwd=project, check=False)
    assert result.returncode != 0
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"{stage}: ")
    assert message in result.stderr
    assert contents(project, "data") == before, "something is half-written"


def test_after_a_mistake_the_last_good_result_is_one_checkout_away(project):
    set_params(project, {"selflabel": {"threshold": 1.5}})
    result = run("dvc", "repro", cwd=project, check=False)
    assert result.returncode != 0
    assert "selflabel: params.yaml: selflabel.threshold = 1.5: input should be less than 1" in result.stderr
    run("git", "checkout", "--quiet", ".", cwd=project)
    run("dvc", "checkout", cwd=project)
    assert not ran_stages(run("dvc", "repro", cwd=project).stdout)


def test_small_and_odd_sizes_run_through(project):
    """Fewer images than a batch, K near N, two clusters."""
    set_params(project, {"clusters": 2, "pretext": {"batch_size": 4096}, "mine": {"k": 359}})
    set_params(project, {"scan": {"head_batch_size": 4096, "batch_size": 4096}, "selflabel": {"batch_size": 4096}})
    for stage in STAGES[1:-1]:
        run_stage(project, stage)
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["scan"]["test"]["acc"] <= 0.25, "two clusters can meet two of ten classes at most"
    assert metrics["scan"]["test"]["clusters_alive"] <= 2
