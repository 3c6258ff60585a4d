"""A project of the same form as the real one that runs in no time: for what studies do around the stages."""

import shutil
from pathlib import Path

from project import ROOT, commit, params_text, run

# `python toy.py <stage> <out> [--params file]` writes scores that the seed decides, and fails where BROKEN says so.
SCRIPT = """\
import argparse, json, os, random, yaml
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("stage")
parser.add_argument("out", type=Path)
parser.add_argument("--params", default="params.yaml")
arguments = parser.parse_args()
params = yaml.safe_load(Path(arguments.params).read_text())
assert params["data"]["name"] == "digits", params["data"]
if os.environ.get("BROKEN") == f"{arguments.stage} {params['seed']}":
    raise SystemExit("broken on purpose")
score = random.Random(params["seed"]).random() if arguments.stage != "download" else 0.5
scores = {"test": {"acc": score, "nmi": score / 2, "ari": score / 4, "majority_acc": score}}
arguments.out.parent.mkdir(parents=True, exist_ok=True)
arguments.out.write_text(json.dumps({method: scores for method in ("kmeans", "scan", "selflabel")}))
"""
PIPELINE = """\
stages:
  download:
    cmd: python toy.py download data/images
    deps: [toy.py, parts/download.py]
    params: [data]
    outs: [data/images]
  pretext:
    cmd: python toy.py pretext data/pretext
    deps: [toy.py, parts/pretext.py, data/images]
    params: [seed, pretext.epochs]
    outs: [data/pretext]
  evaluate:
    cmd: python toy.py evaluate reports/metrics.json
    deps: [toy.py, parts/evaluate.py, data/pretext]
    params: [seed]
    metrics:
      - reports/metrics.json:
          cache: false
  report:
    cmd: python toy.py report reports/index.html
    deps: [toy.py, parts/report.py, reports/metrics.json]
    outs: [reports/index.html]
"""
BASELINES = """\
stages:
  pixels:
    wdir: ..
    cmd: python toy.py pixels reports/baselines/pixels.json
    deps: [toy.py, data/images]
    metrics:
      - reports/baselines/pixels.json:
          cache: false
"""


def make_toy(folder: Path) -> Path:
    """The toy project in its own git repository, with the real params.yaml and packages; nothing has run."""
    for name in ("data", "reports", "parts", "baselines", ".dvc"):
        (folder / name).mkdir(parents=True)
    for package in ("stages", "studies", "presets", "commands"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(params_text())
    (folder / "data/.gitignore").write_text("/images\n/pretext\n")
    (folder / "reports/.gitignore").write_text("/index.html\n")
    (folder / "toy.py").write_text(SCRIPT)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "baselines/dvc.yaml").write_text(BASELINES)
    for stage in ("download", "pretext", "evaluate", "report"):
        (folder / f"parts/{stage}.py").write_text("")
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    run("git", "config", "user.name", "test", cwd=folder)
    run("git", "config", "user.email", "test@example.org", cwd=folder)
    commit(folder, "start")
    return folder
