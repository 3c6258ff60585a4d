"""Write the code that each stage imports into its `deps`: `python -m commands.deps` does it for every dvc.yaml here.

DVC reruns a stage when one of its deps has changed. So they have to be all the files that the stage imports, and no
others; they are read off the imports, and never typed. A folder stands for its files where the stage uses all of them.
Deps that are data (`data/…`, `reports/…`, `names.yaml`) stay as they are, and so does everything else in dvc.yaml.
"""

import argparse
import ast
import io
import sys
from fnmatch import fnmatch
from pathlib import Path

from ruamel.yaml import YAML

from stages.plumbing.errors import UserError

PIPELINES = (Path("dvc.yaml"), Path("baselines/dvc.yaml"))
CODE = ("stages", "baselines")  # where a stage's code may lie; what else it imports is no dependency


def imported(script: Path, root: Path = Path()) -> set[Path]:
    """Every file of the project that a module imports, directly or through others, itself included.

    Read off the text, so nothing is run. What lies in a module's folder and is no Python file, such as a template, is
    a part of every module there that names it. Paths are relative to `root`.
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        tree = ast.parse((root / path).read_text(encoding="utf-8"), str(path))
        waiting += [module for module in _modules(tree) if (root / module).is_file()]
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        beside = (root / path).parent.glob("*.*")
        found |= {file.relative_to(root) for file in beside if file.name in texts and file.suffix != ".py"}
    return found


def _modules(tree: ast.Module) -> list[Path]:
    """The files that import statements may mean, of those that may be code of a stage."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise UserError(f"{ast.unparse(node)}: a relative import, which hides what is imported; write it out")
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [Path(*name.split(".")).with_suffix(".py") for name in names if name.split(".")[0] in CODE]


def gathered(files: set[Path], root: Path = Path()) -> list[str]:
    """Those files as `deps`, sorted: a folder for all of its files, where they are all there.

    Packages' own files hold no code, and so they belong to a folder and are no dependency by themselves.
    """
    files = {path for path in files if path.name != "__init__.py"}
    for folder in sorted({parent for path in files for parent in path.parents}, key=lambda path: -len(path.parts)):
        inside = {path.relative_to(root) for path in (root / folder).rglob("*") if path.is_file()}
        inside = {path for path in inside if path.name != "__init__.py" and not _ignored(path, root)}
        if len(folder.parts) > 1 and inside <= files:
            files = (files - inside) | {folder}
    return sorted(path.as_posix() for path in files)


def _ignored(path: Path, root: Path) -> bool:
    """Whether .dvcignore, here a list of names, keeps a file from DVC."""
    patterns = (root / ".dvcignore").read_text(encoding="utf-8").splitlines()
    return any(fnmatch(part, pattern) for part in path.parts for pattern in patterns)


def written(pipeline: Path) -> str:
    """The text of a dvc.yaml as it should be. UserError where a cmd is another one than `python -m <module>`."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(pipeline.read_text(encoding="utf-8"))
    for name, stage in content["stages"].items():
        words = stage["cmd"].split()
        if words[:2] != ["python", "-m"] or len(words) != 3:
            raise UserError(f"{pipeline}: the cmd of {name} is {stage['cmd']}; expected python -m <module>")
        code = gathered(imported(Path(*words[2].split(".")).with_suffix(".py")))
        data = [path for path in stage["deps"] if Path(path).parts[0] not in CODE]
        stage["deps"][:] = [*code, *data]
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def main() -> None:
    """Write the deps, or with --check only say whether they are as they should be."""
    parser = argparse.ArgumentParser(prog="python -m commands.deps", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a file is not current")
    check, stale = parser.parse_args().check, []
    try:
        for pipeline in PIPELINES:
            text = written(pipeline)
            if text == pipeline.read_text(encoding="utf-8"):
                continue
            stale.append(str(pipeline))
            if not check:
                pipeline.write_text(text, encoding="utf-8")
    except UserError as error:
        sys.exit(f"deps: {error}")
    if check and stale:
        sys.exit(f"deps: {' and '.join(stale)} do not list what the stages import; run python -m commands.deps")
    print(f"deps: {' and '.join(stale)} written" if stale else "deps: nothing to change")


if __name__ == "__main__":
    main()
