"""Every module that git knows can be imported, and every command says how it is used."""

import json
import sys

import pytest
from project import ROOT, run

# A process for each file, as what another one imported or set may hide what it lacks. All are forked from one that
# holds the libraries: else each would load them for seconds.
EACH = """\
import json, os, runpy, sys, traceback
import faiss, matplotlib.pyplot, pandas, pydantic, scipy.stats, sklearn.cluster, torch, torchvision, yaml

found, asked = [], json.loads(sys.argv[1])
for what, path in asked:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.argv, code = [path, "--help"], 0
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True) if what == "help" else __import__(name)
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
    os.close(write)
    with open(read, errors="replace") as pipe:
        said = pipe.read()
    found.append((what, path, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, tuple[int, str]]]:
    """Exit code and output of every module but the tests', imported, and of every command, asked for help."""
    paths = run("git", "ls-files", "*.py", cwd=ROOT).stdout.split()
    modules = [path for path in paths if not path.startswith("tests/")]
    started = 'if __name__ == "__main__":'
    commands = [path for path in modules if path.endswith("/__main__.py") or started in (ROOT / path).read_text()]
    asked = [("import", path) for path in modules] + [("help", path) for path in commands]
    said = {"import": {}, "help": {}}
    for what, path, *outcome in json.loads(run(sys.executable, "-c", EACH, json.dumps(asked), cwd=ROOT).stdout):
        said[what][path] = outcome
    return said


def test_every_module_can_be_imported_first(found):
    assert {"install.py", "stages/__init__.py", "stages/networks/encoder.py"} <= set(found["import"])
    failed = [f"{path}: {said}" for path, (code, said) in found["import"].items() if code]
    assert not failed, "\n".join(failed)


def test_every_command_says_how_it_is_used(found):
    assert {"install.py", "presets/__main__.py", "stages/scan.py"} <= set(found["help"])
    failed = [
        f"{path} ends with {code}: {said}"
        for path, (code, said) in found["help"].items()
        if code or not said.startswith("usage: ") or "Traceback" in said
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("stage", "needed"),
    [
        ("download", set()),
        ("mine", set()),
        ("kmeans", set()),
        ("evaluate", set()),
        ("report", {"pandas", "matplotlib"}),
    ],
)
def test_a_stage_without_a_network_starts_without_its_libraries(stage, needed):
    """Nine Pythons start for a run; torch and scikit-learn take a second or more of each that imports them."""
    code = f"import sys, stages.{stage}; print(*{{'torch', 'sklearn', 'pandas', 'matplotlib'}} & set(sys.modules))"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert set(done.stdout.split()) <= needed
