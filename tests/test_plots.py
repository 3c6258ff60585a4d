"""The plots that dvc.yaml names: DVC draws them all, of two revisions, with the right columns and labels."""

import json

import pytest
import yaml
from project import PIPELINE, ROOT, commit, run

PLOTS = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
NAMED = {name: plot for entry in PLOTS for name, plot in entry.items()}
TABLES = {
    "data/pretext/history.csv": "epoch,lr,loss\n1,0.4,{0}.5\n2,0.3,{0}.25\n",
    "data/scan/history.csv": "epoch,lr,loss,consistency,entropy\n1,0.01,-10.{0},0.9,2.2\n1,0.001,-11.{0},0.2,2.3\n",
    "data/selflabel/history.csv": "epoch,lr,loss,confident,skipped\n1,3e-05,0.{0},0.67,0\n2,3e-05,0.5,0.7,0\n",
    "reports/plots/confusion.csv": "actual,predicted\ncat,cat\ncat,cluster {0}\ndog,dog\n",
    "reports/plots/purity.csv": "k,purity\n1,0.8{0}\n5,0.78\n20,0.7\n",
    "reports/plots/sizes.csv": "number,cluster,images\n0,cat,1{0}\n1,dog,20\n",
}
# The axes of each: column of x, column of y, rows in the table. Without a column DVC counts the rows in `step`.
AXES = {
    "pretext loss": ("epoch", "loss", 2),
    "scan loss": ("step", "loss", 2),
    "scan consistency": ("step", "consistency", 2),
    "scan entropy": ("step", "entropy", 2),
    "selflabel loss": ("epoch", "loss", 2),
    "selflabel confident": ("epoch", "confident", 2),
    "confusion": ("predicted", "actual", 3),
    "purity": ("k", "purity", 3),
    "sizes": ("images", "cluster", 2),
}


def source(name):
    """The file and the column that a plot shows."""
    return next(iter(NAMED[name]["y"].items()))


def write(project, change=lambda text: text):
    for path, text in TABLES.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(change(text))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The plots of dvc.yaml above tables that git tracks, so that two revisions need no training."""
    project = tmp_path_factory.mktemp("plots")
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text((ROOT / ".dvc/config").read_text())
    (project / ".dvc/.gitignore").write_text((ROOT / ".dvc/.gitignore").read_text())
    (project / "dvc.yaml").write_text(yaml.safe_dump({"plots": PLOTS}, sort_keys=False))
    write(project, lambda text: text.format(3))
    run("git", "init", "--quiet", "--initial-branch=main", cwd=project)
    run("git", "config", "user.name", "test", cwd=project)
    run("git", "config", "user.email", "test@example.org", cwd=project)
    commit(project, "start")
    return project


def test_every_plot_is_of_a_file_that_some_stage_makes():
    outs = [out for stage in PIPELINE.values() for out in stage["outs"]]
    for name in NAMED:
        path, _ = source(name)
        assert any(path.startswith(f"{out}/") for out in outs), f"{name}: no stage makes {path}"
    assert {source(name)[0] for name in NAMED} == set(TABLES)


def test_dvc_draws_them_all_of_two_revisions(project):
    write(project, lambda text: text.format(4))
    found = json.loads(run("dvc", "plots", "diff", "HEAD", "--json", "--out", "../drawn", cwd=project).stdout)
    assert not found.get("errors")
    assert set(found["data"]) == set(NAMED) == set(AXES)
    for name, (x, y, count) in AXES.items():
        (plot,) = found["data"][name]
        content = plot["content"] if isinstance(plot["content"], dict) else json.loads(plot["content"])
        values = content["data"]["values"]
        assert {row["rev"] for row in values} == {"HEAD", "workspace"}
        assert len(values) == 2 * count
        assert all({x, y} <= set(row) for row in values)
        axes = encoding(content)
        assert (axes["x"]["field"], axes["y"]["field"]) == (x, y) == (NAMED[name].get("x", "step"), source(name)[1])
        assert axes["x"]["title"] == NAMED[name]["x_label"]
        assert axes["y"]["title"] == NAMED[name]["y_label"]
        assert content["title"]["text"] == NAMED[name]["title"]


def test_tables_without_rows_are_no_error(project):
    """A run without labels has no confusion and no purity; what was not trained has no epochs."""
    write(project, lambda text: text.partition("\n")[0] + "\n")
    result = run("dvc", "plots", "show", "--json", "--out", "../drawn", cwd=project)
    assert not json.loads(result.stdout).get("errors")
    assert "failed" not in result.stderr


def encoding(content):
    """The x and y of a Vega-Lite plot, wherever its template keeps them."""
    for holder in (content, content.get("spec", {}), *content.get("layer", [])):
        axes = holder.get("encoding", {})
        if {"x", "y"} <= set(axes):
            return axes
    found = {}
    for holder in (content, *content.get("layer", [])):
        found |= {axis: holder["encoding"][axis] for axis in ("x", "y") if axis in holder.get("encoding", {})}
    return found
