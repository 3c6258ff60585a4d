"""Every module that git knows can be imported, and every command says how it is used."""

import json
import sys

from project import ROOT, run

# A process for each file, as what another one imported or set may hide what it lacks. All are forked from one that
# holds the libraries: else each would load them for seconds.
EACH = """\
import json, os, runpy, sys, traceback
import matplotlib.pyplot, pandas, pydantic, scipy.stats, sklearn.cluster, torch, torchvision, yaml

what, *paths = sys.argv[1:]
sys.path.insert(0, "")
found = {}
for path in paths:
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
    found[path] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said
print(json.dumps(found))
"""


def tracked() -> list[str]:
    """The modules of the repository, without its tests."""
    paths = run("git", "ls-files", "*.py", cwd=ROOT).stdout.split()
    return [path for path in paths if not path.startswith("tests/")]


def each(what: str, paths: list[str]) -> dict[str, tuple[int, str]]:
    """Exit code and output of every file, imported or asked for help."""
    return json.loads(run(sys.executable, "-c", EACH, what, *paths, cwd=ROOT).stdout)


def test_every_module_can_be_imported_first():
    found = each("import", tracked())
    assert len(found) > 90
    failed = [f"{path}: {said}" for path, (code, said) in found.items() if code]
    assert not failed, "\n".join(failed)


def test_every_command_says_how_it_is_used():
    started = 'if __name__ == "__main__":'
    commands = [path for path in tracked() if path.endswith("/__main__.py") or started in (ROOT / path).read_text()]
    assert {"install.py", "presets/__main__.py", "stages/scan.py"} <= set(commands)
    found = each("help", commands)
    failed = [
        f"{path} ends with {code}: {said}"
        for path, (code, said) in found.items()
        if code or not said.startswith("usage: ") or "Traceback" in said
    ]
    assert not failed, "\n".join(failed)
