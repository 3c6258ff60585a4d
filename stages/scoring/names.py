"""names.yaml: what people call the clusters, which they take for one, and which for junk."""

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from stages.plumbing.errors import UserError
from stages.plumbing.printing import printable

FILE = Path("names.yaml")
JUNK = "junk"
MERGE = "merge"


class Names(NamedTuple):
    """The groups that people made of clusters."""

    name: list[str]  # of each cluster, that of the group it is in; "" where nobody gave one, "junk" for junk
    group: list[int]  # of each cluster, the lowest number of the clusters that are one with it; often its own
    stale: bool  # whether the file was written for another model, so that nothing of it counts here

    @property
    def given(self) -> bool:
        """Whether anybody named anything."""
        return any(self.name) or self.group != list(range(len(self.group)))

    def call(self, classes: Sequence[str]) -> list[str]:
        """What to call each cluster: by the name people gave it, else by the class in `classes`, else by its number.

        classes: of each cluster, the name of the class that it is matched with, "" where there is none. Clusters that
        are one are called alike.
        """
        unnamed = [classes[group] or f"cluster {group}" for group in self.group]
        return [name or other for name, other in zip(self.name, unnamed, strict=True)]


def model_id(model: Path) -> str:
    """The first digits of the hash of a model file: what `model` in names.yaml is compared with."""
    with open(model, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def read_names(path: Path, clusters: int, model: str) -> Names:
    """The names that a file gives to `clusters` clusters of the model with that id (see `model_id`).

    Clusters with the same name are one group; a merged one takes the other's name. What was written for another model
    is `stale` and left out, for after another training the numbers mean something else. UserError for what cannot be
    understood: the line names the cluster and what was expected. Without a file nobody named anything.
    """
    nobody = Names([""] * clusters, list(range(clusters)), stale=False)
    if not path.exists():
        return nobody
    try:
        content = _read(path)
        if content.get("model") is not None and str(content["model"]) != model:
            return nobody._replace(stale=True)
        given = content.get("clusters") or {}
        entries = {number: _understand(number, value, clusters) for number, value in given.items()}
        return _merged(dict.fromkeys(range(clusters), "") | entries)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def score_names(given: Names, cluster: np.ndarray) -> dict[str, float | int]:
    """What people made of the clusters, int (N,): how many groups, and which share of the images is junk or unnamed."""
    name = np.array(given.name, dtype=object)[cluster]
    groups = {group for group, of in zip(given.group, given.name, strict=True) if of != JUNK}
    return {"groups": len(groups), "junk": float(np.mean(name == JUNK)), "unnamed": float(np.mean(name == ""))}


def _read(path: Path) -> dict:
    """The file as YAML with the keys that there may be."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"no YAML that can be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or (unknown := [key for key in content if key not in ("model", "clusters")]):
        what = f"unknown key {unknown[0]}" if isinstance(content, dict) else "no mapping"
        raise UserError(f"{what}; expected model and clusters")
    given = content.get("clusters") or {}
    if not isinstance(given, dict):
        raise UserError(f"clusters is {given!r}; expected numbers and names, such as {{0: sneaker, 5: {JUNK}}}")
    return content


def _understand(number: object, value: object, clusters: int) -> str | int:
    """One entry: the name of a cluster ("" for none), or the number of the cluster that it is merged with."""
    if not _is_cluster(number, clusters):
        raise UserError(f"cluster {number!r} does not exist; there are 0 to {clusters - 1}")
    if value is None:
        return ""
    if isinstance(value, str) and value.strip():
        # Refused and not cleaned: clusters of the same name are one group, which cleaning might make of two.
        if printable(value.strip()) != value.strip():
            raise UserError(
                f"cluster {number} is {value!a}; a name is one line, without characters that cannot be seen"
            )
        return value.strip()
    if isinstance(value, list) and len(value) == 2 and value[0] == MERGE and _is_cluster(value[1], clusters):
        return value[1] if value[1] != number else ""
    if isinstance(value, list) and len(value) == 2 and value[0] == MERGE and isinstance(value[1], int):
        raise UserError(f"cluster {number} merges with {value[1]}, which does not exist; there are 0 to {clusters - 1}")
    hint = difflib.get_close_matches(str(value[0]) if isinstance(value, list) and value else "", [MERGE])
    raise UserError(
        f"cluster {number} is {value!r}{'; merge is meant?' if hint else ''}; expected a name in quotes or without, "
        f"{JUNK}, or [{MERGE}, <number of another cluster below {clusters}>]"
    )


def _is_cluster(number: object, clusters: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < clusters


def _merged(entries: dict[int, str | int]) -> Names:
    """The groups that the entries of all clusters make: what leads to the same one, and what bears the same name."""
    end = [_end(number, entries) for number in entries]
    name = [entries[number] for number in end]
    key = [called or number for called, number in zip(name, end, strict=True)]
    return Names(name, [key.index(of) for of in key], stale=False)


def _end(number: int, entries: dict[int, str | int]) -> int:
    """The cluster to which merging leads from one, which may be that one. UserError if it leads back."""
    seen = []
    while isinstance(entries[number], int):
        seen.append(number)
        number = entries[number]
        if number in seen:
            raise UserError(f"clusters {', '.join(map(str, seen))} merge in a circle; let one of them keep a name")
    return number
