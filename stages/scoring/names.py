"""names.yaml: what people call the clusters, which they take for one, and which for junk."""

import difflib
import hashlib
from pathlib import Path
from typing import NamedTuple

import yaml

from stages.plumbing.errors import UserError

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
    if not path.exists():
        return Names([""] * clusters, list(range(clusters)), stale=False)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML that can be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or (unknown := [key for key in content if key not in ("model", "clusters")]):
        what = f"unknown key {unknown[0]}" if isinstance(content, dict) else "no mapping"
        raise UserError(f"{path}: {what}; expected model and clusters")
    given = content.get("clusters") or {}
    if not isinstance(given, dict):
        raise UserError(f"{path}: clusters is {given!r}; expected numbers and names, such as {{0: sneaker, 5: {JUNK}}}")
    own = list(range(clusters))
    if content.get("model") is not None and str(content["model"]) != model:
        return Names([""] * clusters, own, stale=True)

    name, target = [""] * clusters, list(own)
    for number, value in given.items():
        if not _is_cluster(number, clusters):
            raise UserError(f"{path}: cluster {number!r} does not exist; there are 0 to {clusters - 1}")
        if isinstance(value, str) and value.strip():
            name[number] = value.strip()
        elif isinstance(value, list) and len(value) == 2 and value[0] == MERGE and _is_cluster(value[1], clusters):
            target[number] = value[1]
        elif value is not None:
            hint = difflib.get_close_matches(str(value[0]) if isinstance(value, list) and value else "", [MERGE])
            raise UserError(
                f"{path}: cluster {number} is {value!r}{'; merge is meant?' if hint else ''}; expected a name in "
                f"quotes or without, {JUNK}, or [{MERGE}, <number of another cluster below {clusters}>]"
            )
    for number in own:
        name[number] = name[_end(path, number, target)] or (name[number] if target[number] == number else "")
    # One group: what leads to the same cluster, and what bears the same name.
    key = [name[number] or _end(path, number, target) for number in own]
    return Names(name, [key.index(of) for of in key], stale=False)


def _is_cluster(number: object, clusters: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < clusters


def _end(path: Path, number: int, target: list[int]) -> int:
    """Where merging leads from a cluster. UserError if it leads back."""
    seen = []
    while target[number] != number:
        seen.append(number)
        number = target[number]
        if number in seen:
            raise UserError(
                f"{path}: clusters {', '.join(map(str, seen))} merge in a circle; let one of them keep a name"
            )
    return number
