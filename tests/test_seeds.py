"""studies.seeds: real experiments of DVC on a toy pipeline, one for each seed."""

import json
import sys

import pytest
from project import head, run
from toy import make_toy

from studies.seeds import add, mean, scores, table


def seeds(project, *arguments, check=True, **env):
    return run(sys.executable, "-m", "studies.seeds", *arguments, cwd=project, check=check, **env)


def results(project):
    return json.loads((project / "reports/seeds.json").read_text())


def test_every_seed_is_run_once_and_failures_are_named(tmp_path):
    project = make_toy(tmp_path / "project")
    other = {"acc": [0.5], "nmi": [0.5], "ari": [0.5], "kmeans_acc": [0.5], "scan_acc": [0.5]}
    (project / "reports/seeds.json").write_text(json.dumps({"cifar10": {**other, "seeds": [0], "seconds": [60]}}))
    params = (project / "params.yaml").read_bytes()

    failed = seeds(project, "digits", "--seeds", "2", check=False, BROKEN="pretext 0")
    assert failed.returncode == 1
    assert "digits: failed with seed 0; the next call tries again" in failed.stderr
    assert results(project)["digits"]["seeds"] == [1]

    assert "digits, seed 1: already in" in seeds(project, "digits", "--seeds", "1", "0").stdout
    rows = results(project)["digits"]
    assert rows["seeds"] == [0, 1]
    assert rows["acc"][0] != rows["acc"][1]
    assert all(len(rows[name]) == 2 for name in ("nmi", "ari", "kmeans_acc", "scan_nmi", "seconds"))
    assert all(seconds > 0 for seconds in rows["seconds"]), "every stage but the download was run for each seed"
    assert results(project)["cifar10"]["seeds"] == [0], "other presets stay"
    lines = (project / "reports/seeds.md").read_text().splitlines()
    assert any(line.startswith("| digits | 2 |") and " ± " in line for line in lines)
    assert any(line.startswith("| cifar10 | 1 |") for line in lines)

    before = results(project)
    assert "Running stage" not in seeds(project, "digits", "--seeds", "2").stdout
    assert results(project) == before

    assert (project / "params.yaml").read_bytes() == params, "experiments leave the workspace as it is"
    assert not (project / "data/pretext").exists()
    assert "digits-seed-1" in run("dvc", "exp", "list", cwd=project).stdout

    # Other code and params: the seeds begin anew. What comes from the cache has no seconds of its own.
    (project / "parts/evaluate.py").write_text("# edited\n")
    output = seeds(project, "digits", "--seeds", "1", "-S", "mine.k=9").stdout
    assert "code or params have changed; its 2 seeds begin anew" in output
    rows = results(project)["digits"]
    assert rows["seeds"] == [0]
    assert rows["seconds"] == [None]
    assert rows["fingerprint"] != before["digits"]["fingerprint"]


def test_a_preset_is_not_laid_over_another(tmp_path):
    project = make_toy(tmp_path / "project")
    run(sys.executable, "-m", "presets", "digits", cwd=project)
    result = seeds(project, "cifar10", check=False)
    assert result.returncode == 1
    assert "would mix with cifar10" in result.stderr


def test_the_scores_are_those_of_the_real_metrics():
    metrics = json.loads((head() / "reports/metrics.json").read_text())
    found = scores(metrics)
    assert found["acc"] == metrics["selflabel"]["test"]["acc"]
    assert found["kmeans_nmi"] == metrics["kmeans"]["test"]["nmi"]
    assert len(found) == 9
    with pytest.raises(RuntimeError, match="without labels"):
        scores({"kmeans": {"test": {}}})


def test_rows_are_ordered_by_seed_and_the_table_holds_mean_and_sample_deviation():
    rows = {}
    for seed, acc in ((2, 0.7), (0, 0.5), (1, 0.6)):
        names = ("acc", "nmi", "ari", "kmeans_acc", "scan_acc")
        add(rows, seed, {**dict.fromkeys(names, acc), "seconds": None if seed == 2 else 60 * (seed + 1)})
    assert rows["seeds"] == [0, 1, 2]
    assert rows["acc"] == [0.5, 0.6, 0.7]
    assert "| digits | 3 | 60.0 ± 10.0 |" in table({"digits": rows})
    assert "| 1.5 ± 0.7 |" in table({"digits": rows})
    assert mean([0.5]) == "50.0"
    assert mean([None]) == "–"
