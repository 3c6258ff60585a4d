"""The command export: the trained model as a folder that runs without this project. It is no stage of the pipeline."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from commands.export.card import About, card
from commands.export.portable import Portable, compare, load_onnx, load_pt2, write_portable
from commands.trained import MODEL, load_classifier, name_clusters
from stages.images.sources import pictures
from stages.images.store import read_images, read_meta
from stages.networks.classifier import Classifier
from stages.plumbing.command import run
from stages.plumbing.errors import UserError
from stages.plumbing.outputs import output_folder
from stages.plumbing.params import Block, Count, Seed
from stages.plumbing.printing import printable

LOADERS = {"model.onnx": load_onnx, "model.pt2": load_pt2}
PICTURES = Path(pictures.__file__)
HASHED = (*LOADERS, PICTURES.name)
FILES = {*HASHED, "config.json", "MODEL_CARD.md"}
TOLERANCE = 1e-4  # in any probability
CHECKED = 64  # test images on which the files are compared with the network


class Params(Block):
    """What the card tells of params.yaml. The blocks were checked by the stages that they steer."""

    seed: Seed
    clusters: Count
    data: dict
    pretext: dict
    embed: dict
    mine: dict
    scan: dict
    selflabel: dict


def export(
    params: Params,
    out: Path = Path("exported"),
    model: Path = MODEL,
    images: Path = Path("data/images"),
    metrics: Path = Path("reports/metrics.json"),
    names: Path | None = None,
) -> None:
    """Write model.onnx and model.pt2 (torch.export), a model card and config.json into a folder, all or nothing.

    Both take uint8 (B, H, W, C), as images are stored, and give probabilities, float32 (B, clusters). They are compared
    with the network on test images first. pictures.py beside them reads files for them as `download` and `predict` do.
    An earlier export at the same place is replaced.
    """
    out = Path(os.path.abspath(out))
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise UserError(f"{printable(str(out))}: no UTF-8, which torch needs the names of files to be") from None
    # Whoever has used pictures.py there has Python's __pycache__ beside it.
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= {*FILES, "__pycache__"}):
        raise UserError(f"{out}: this exists and is no earlier export, so it is not replaced; name another --out")
    classifier = load_classifier(model)
    check_belonging(classifier, params, images)
    called = name_clusters(names, model, classifier.config["clusters"])
    scores, labelled = read_scores(metrics, model)
    test, network = read_images(images, "test"), Portable(classifier)
    sample = np.array(test[np.linspace(0, len(test) - 1, min(CHECKED, len(test)), dtype=np.int64)])
    with output_folder(out) as folder:
        print("export: writing both forms, which takes some seconds", flush=True)
        write_portable(network, *(folder / name for name in LOADERS))
        for name, load in LOADERS.items():
            if difference := compare(network.run, load(folder / name), sample, TOLERANCE):
                raise UserError(f"{name} would not do what {model / 'model.pt'} does: {difference}; nothing is written")
        shutil.copyfile(PICTURES, folder / PICTURES.name)
        config = describe(classifier, called)
        config["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in HASHED}
        counts = {path.stem: len(read_images(images, path.stem)) for path in sorted(images.glob("*.npy"), reverse=True)}
        about = About(asdict(read_meta(images)), counts, shareable(params, model), scores, labelled, len(sample))
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        (folder / "MODEL_CARD.md").write_text(card(config, about), encoding="utf-8")
    card_file = printable(str(out / "MODEL_CARD.md"))
    print(f"export: both agree with the network on {len(sample)} test images; {card_file} tells their use")


def check_belonging(classifier: Classifier, params: Params, images: Path) -> None:
    """Raise UserError if the images are not such as the model takes, or params.yaml is not what it was made by."""
    input, meta = classifier.encoder.input, read_meta(images)
    if (meta.size, meta.channels) != (input.size, input.channels):
        raise UserError(
            f"{images} holds images of {meta.size}x{meta.size}x{meta.channels}, but the model takes "
            f"{input.size}x{input.size}x{input.channels}; run dvc repro, or name the images that it was made from"
        )
    made = {"clusters": classifier.config["clusters"], "pretext.backbone": classifier.encoder.config["backbone"]}
    given = {"clusters": params.clusters, "pretext.backbone": params.pretext.get("backbone")}
    for key, value in made.items():
        if value != given[key]:
            raise UserError(f"{key} = {given[key]}, but the model has {value}; run dvc repro, or name its --params")


def read_scores(metrics: Path, model: Path) -> tuple[dict[str, dict] | None, bool]:
    """What metrics.json says of the model in the folder of that name, by split, and whether it is about labels."""
    try:
        found = json.loads(metrics.read_text(encoding="utf-8"))
        return found.get(model.resolve().name), bool(found["labelled"])
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{metrics}: not the scores that evaluate writes; run dvc repro evaluate") from None


def describe(classifier: Classifier, names: list[str]) -> dict:
    """What config.json holds, but for the hashes of the files."""
    input = classifier.encoder.input
    return {
        "input": {
            "name": "images",
            "dtype": "uint8",
            "layout": "batch, height, width, channels",
            "size": input.size,
            "channels": input.channels,
            "mean": list(input.mean),
            "std": list(input.std),
            "normalised": "inside the model, by mean and std of values in [0, 1]",
        },
        "output": {"name": "probabilities", "dtype": "float32", "layout": "batch, clusters"},
        "clusters": len(names),
        "names": names,
        "backbone": classifier.encoder.config["backbone"],
    }


def shareable(params: Params, model: Path) -> dict:
    """What of params.yaml made the model, for a card that others read: without places of files on this machine."""
    blocks = params.model_dump()
    blocks["data"].pop("path", None)
    if weights := blocks["pretext"].get("weights"):
        blocks["pretext"]["weights"] = Path(weights).name
    if model.resolve().name == "scan":
        del blocks["selflabel"]
    return blocks


if __name__ == "__main__":
    run(export)
