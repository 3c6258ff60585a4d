"""dvc.yaml held to the code: imports are deps, keys read are params, labels reach the scores only."""

import ast
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import (
    PIPELINE,
    ROOT,
    STAGES,
    commit,
    default_paths,
    head,
    make_project,
    params_text,
    run,
    set_params,
)
from pydantic import BaseModel

from commands import deps

PARAMS = yaml.safe_load(params_text())


def files(stage, kind):
    """The paths under `deps`, `outs`, `metrics` or `plots` of a stage."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in PIPELINE[stage].get(kind, [])]


def produced(stage):
    return [path for kind in ("outs", "metrics", "plots") for path in files(stage, kind)]


def schema(stage):
    return importlib.import_module(f"stages.{stage}").Params


def test_the_pipeline_has_these_nine_stages_each_described():
    assert list(PIPELINE) == STAGES
    assert all(PIPELINE[stage]["desc"] for stage in STAGES)


def covered(stage) -> set[str]:
    """The files of code that the deps of a stage stand for."""
    named = [ROOT / path for path in files(stage, "deps") if path.startswith("stages/")]
    below = (file for path in named for file in (path.rglob("*") if path.is_dir() else [path]))
    return {str(file.relative_to(ROOT)) for file in below if file.is_file() and "__pycache__" not in file.parts}


@pytest.mark.parametrize("pipeline", deps.PIPELINES, ids=str)
def test_deps_are_what_the_stages_import(pipeline, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert deps.written(pipeline) == pipeline.read_text(), f"{pipeline} is stale; run: python -m commands.deps"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_what_python_loads_for_a_stage(stage):
    """The same from the other side: not read off the text, but asked of Python."""
    loaded = "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('stages.')))"
    done = run(sys.executable, "-c", f"import sys, stages.{stage}; {loaded}", cwd=ROOT)
    found = {str(Path(path).relative_to(ROOT)) for path in done.stdout.split()}
    code = {path for path in covered(stage) if path.endswith(".py")}
    assert {path for path in found | code if not path.endswith("__init__.py")} <= found & code


def test_a_folder_stands_for_its_files_where_a_stage_uses_all_of_them():
    assert "stages/neighbors" in files("mine", "deps")
    assert covered("mine") >= {"stages/neighbors/exact.py", "stages/neighbors/approximate.py"}
    assert "stages/neighbors/exact.py" in files("evaluate", "deps")


def test_package_files_hold_nothing_but_a_line_of_text():
    for path in (ROOT / "stages").rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, f"{path}: code here would be a dependency that no stage lists"
        assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_exactly_the_blocks_that_a_stage_reads(stage):
    assert sorted(PIPELINE[stage]["params"]) == sorted(schema(stage).model_fields)


def test_every_key_of_params_yaml_is_claimed_and_valid():
    claimed = set()
    for stage in STAGES:
        fields = schema(stage).model_fields
        # Blocks forbid keys that they do not know, so this also finds a leaf that nobody reads.
        schema(stage).model_validate({name: PARAMS[name] for name in fields})
        claimed |= set(fields)
    assert claimed == set(PARAMS)


# DVC's run cache leaves these out of its key wherever they stand (treeverse/dvc#10296): a stage that asks for another
# value of such a parameter is given what it made of the first one.
IGNORED = {"size", "nfiles"}


def keys(content) -> set[str]:
    """The keys of nested dictionaries and lists, at any depth."""
    if isinstance(content, list):
        return {key for item in content for key in keys(item)}
    return set(content).union(*map(keys, content.values())) if isinstance(content, dict) else set()


def fields(schema: type[BaseModel]) -> set[str]:
    """The names of the fields of a schema and of all that it holds."""
    content = schema.model_json_schema()
    return {key for model in (content, *content.get("$defs", {}).values()) for key in model.get("properties", {})}


def test_no_parameter_has_a_name_that_dvcs_run_cache_ignores():
    paths = [*sorted((ROOT / "presets").glob("*.yaml")), ROOT / "dvc.yaml", ROOT / "baselines/dvc.yaml"]
    found = {"params.yaml": keys(PARAMS)} | {str(path): keys(yaml.safe_load(path.read_text())) for path in paths}
    for path in paths[-2:]:
        listed = [name for stage in yaml.safe_load(path.read_text())["stages"].values() for name in stage["params"]]
        found[str(path)] |= {part for name in listed for part in name.split(".")}
    scripts = [*sorted((ROOT / "stages").glob("*.py")), *sorted((ROOT / "baselines").glob("*.py"))]
    modules = [importlib.import_module(f"{path.parent.name}.{path.stem}") for path in scripts]
    found |= {module.__name__: fields(module.Params) for module in modules if hasattr(module, "Params")}
    assert "image_size" in found["params.yaml"] & found["stages.download"]
    assert {"backbone", "crop_area"} <= found["baselines.supervised"]
    assert not {where: names & IGNORED for where, names in found.items() if names & IGNORED}


def test_another_image_size_makes_other_images_also_from_the_run_cache(tmp_path):
    project = make_project(tmp_path / "project")

    def side() -> int:
        return np.load(project / "data/images/train.npy", mmap_mode="r").shape[1]

    for size in (16, 32, 16):
        set_params(project, {"data": {"image_size": size}})
        run("dvc", "repro", "download", cwd=project)
        assert side() == size
    commit(project, "images of 16")
    run("dvc", "exp", "run", "--set-param", "data.image_size=24", "download", cwd=project)
    assert side() == 24
    run("dvc", "exp", "run", "--set-param", "data.image_size=32", "download", cwd=project)
    assert side() == 32


@pytest.mark.parametrize("stage", STAGES)
def test_default_paths_are_the_inputs_and_outputs(stage):
    assert PIPELINE[stage]["cmd"] == f"python -m stages.{stage}"
    inputs = [path for path in files(stage, "deps") if not path.startswith("stages/")]
    assert sorted(default_paths(f"stages.{stage}")) == sorted(inputs + produced(stage))


def test_labels_reach_evaluate_and_report_only():
    assert [stage for stage in STAGES if "data/labels" in files(stage, "deps")] == ["evaluate", "report"]


def test_only_small_things_are_kept_out_of_the_cache():
    """Heavy stages have cached outs only; what git tracks is listed as metrics and plots, never as outs."""
    for stage in STAGES:
        assert all(isinstance(entry, str) for entry in PIPELINE[stage]["outs"])
        if stage not in ("evaluate", "report"):
            assert not PIPELINE[stage].get("metrics")
            assert not PIPELINE[stage].get("plots")


def named_by(path: Path) -> set[str]:
    """Every dotted name that a module may import."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    whence = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return plain.union(*({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} for node in whence))


# From the ground up: what stands on a line knows what stands on the same line and below. docs/developing.md says it.
FLOORS = [
    {"plumbing"},
    {"losses", "networks", "images", "neighbors", "scoring"},
    {"training", "page"},
    {"tasks"},
    {"", "baselines"},  # the stages themselves
    {"commands", "presets", "studies", "benchmarks"},
]


def room(module: str) -> str:
    """The room that a module of the project is in; "" for a stage."""
    first, *rest = module.split(".")
    return first if first != "stages" else rest[0] if len(rest) > 1 else ""


def project_modules() -> dict[str, set[str]]:
    """Every module of the project and the modules of the project that it imports."""
    paths = run("git", "ls-files", "*.py", cwd=ROOT).stdout.split()
    paths = [path for path in paths if "/" in path and not path.startswith("tests/") and "__init__" not in path]
    names = {path.removesuffix(".py").replace("/", "."): ROOT / path for path in paths}
    return {name: named_by(path) & set(names) for name, path in names.items()}


def test_arrows_point_down_only():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    modules = project_modules()
    assert {room(name) for name in modules} == set(floor)
    upwards = [
        f"{name} imports {other}"
        for name, others in modules.items()
        for other in others
        if floor[room(other)] > floor[room(name)]
    ]
    assert not upwards


def test_no_module_imports_itself_in_a_circle():
    modules, done = project_modules(), set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for other in modules[name]:
                visit(other, [*path, name])
            done.add(name)

    for name in modules:
        visit(name, [])


def test_rooms_take_numbers_and_know_no_schema():
    for path in (ROOT / "stages").glob("*/**/*.py"):
        if path.parent.name != "plumbing":
            assert "stages.plumbing.params" not in named_by(path), path


def test_only_the_check_before_a_stage_is_imported_by_its_name():
    """What is imported so hides from dvc.yaml: it must not be able to change a result."""
    called = re.compile(r"import_module\((.*)\)")
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in (ROOT / "stages").rglob("*.py")
        for what in called.findall(path.read_text())
    }
    assert found == {("stages/plumbing/command.py", '"commands.preflight"')}


# Which stages an edit reruns, beside those that follow by their inputs. A line here is a promise to the researcher.
TRAINED = ["pretext", "scan", "selflabel"]
TOUCHED = {
    "stages/plumbing/command.py": STAGES,
    "stages/plumbing/progress.py": ["download", "pretext", "embed", "scan", "selflabel"],
    "stages/training/checkpoint.py": TRAINED,
    "stages/training/inference.py": ["embed", "scan", "selflabel"],
    "stages/scoring/results.py": ["evaluate", "report"],
    "stages/scoring/tables.py": ["evaluate"],
    "stages/page/figures.py": ["report"],
    "stages/page/template.html": ["report"],
    "stages/page/script.js": ["report"],
    "stages/page/exhibit.py": ["report"],
    "names.yaml": ["evaluate", "report"],
    "stages/scoring/names.py": ["evaluate", "report"],
    "stages/scoring/purity.py": ["evaluate"],
    "stages/scoring/matching.py": ["evaluate", "report"],
    "stages/neighbors/exact.py": ["mine", "evaluate"],
    "stages/neighbors/copies.py": ["mine"],
    "stages/losses/nt_xent.py": ["pretext"],
    "stages/losses/entropy.py": ["scan"],
    "stages/losses/scan.py": ["scan"],
    "stages/losses/confident.py": ["selflabel"],
    "stages/networks/classifier.py": ["scan", "selflabel"],
    "stages/images/strong.py": ["scan", "selflabel"],
    "stages/images/sources/folder.py": ["download"],
    "stages/tasks/simclr.py": ["pretext"],
    "stages/tasks/scan.py": ["scan"],
    "stages/training/consensus.py": ["scan"],
    "stages/training/ema.py": ["pretext", "selflabel"],
    "stages/networks/weights.py": ["pretext"],
    "stages/training/mean_teacher.py": ["selflabel"],
    "stages/training/loop.py": TRAINED,
    **{f"stages/{stage}.py": [stage] for stage in STAGES},
}


@pytest.mark.parametrize("path", TOUCHED)
def test_an_edit_reruns_no_more_than_it_must(path):
    assert (ROOT / path).exists()
    assert [stage for stage in STAGES if path in covered(stage) or path in files(stage, "deps")] == TOUCHED[path]


def test_the_committed_lock_fits_the_code():
    result = run("dvc", "repro", "--allow-missing", "--dry", cwd=head())
    assert "Running stage" not in result.stdout, f"dvc.lock is stale; run `make repro` and commit:\n{result.stdout}"
