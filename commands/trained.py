"""The trained model as the commands outside the pipeline take it: the network, and what its clusters are called."""

from pathlib import Path

from stages.networks.classifier import Classifier
from stages.networks.model import load_model
from stages.plumbing.errors import UserError
from stages.scoring.names import FILE as NAMES
from stages.scoring.names import model_id, read_names

MODEL = Path("data/selflabel")


def load_classifier(model: Path) -> Classifier:
    """The classifier in a folder such as data/selflabel, with a network to run images through. UserError if not."""
    path = model / "model.pt"
    if not path.exists():
        raise UserError(f"{path}: no such file; run `dvc repro selflabel` first, or name another folder with --model")
    classifier = load_model(path, Classifier)
    classifier.encoder.require_network("take a model that has one (any other pretext.method)")
    return classifier


def name_clusters(names: Path | None, model: Path, clusters: int) -> list[str]:
    """What each cluster is called: the name that people gave it, else "cluster" and the lowest number in its group.

    `names` None means names.yaml, if there is one. Names that were given to another model are left out, and that said.
    """
    path = NAMES if names is None else names
    if not path.exists():
        if names is not None:
            raise UserError(f"{names}: no such file; leave --names out, or name a file such as {NAMES}")
        return [f"cluster {number}" for number in range(clusters)]
    given = read_names(path, clusters, model_id(model / "model.pt"))
    if given.stale:
        print(f"{path}: it was written for another model, so its names are left out; name the groups on the new page")
    return given.call([""] * clusters)
