"""The model card: what an exported model is, in Markdown, for whoever finds its folder without this project."""

from typing import NamedTuple

import yaml

# What is told of each split: key in metrics.json, heading, factor, digits.
SCORES = (
    ("acc", "ACC %", 100, 1),
    ("nmi", "NMI %", 100, 1),
    ("ari", "ARI %", 100, 1),
    ("clusters_alive", "clusters in use", 1, 0),
    ("confidence", "mean confidence %", 100, 1),
    ("confident", "surer than 99 %, %", 100, 1),
)

PREPARE = """\
import json

import numpy as np
from pictures import read

with open("config.json", encoding="utf-8") as file:
    config = json.load(file)
size, channels = config["input"]["size"], config["input"]["channels"]
images = np.stack([read("picture.png", size, channels)])  # uint8 (B, H, W, C)
"""
ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
[probabilities] = session.run(["probabilities"], {"images": images})  # float32 (B, clusters)
"""
TORCH = """\
import torch

model = torch.export.load("model.pt2").module()
with torch.inference_mode():
    probabilities = model(torch.from_numpy(images)).numpy()  # float32 (B, clusters)
"""
ANSWER = """\
for row in probabilities:
    print(config["names"][row.argmax()], round(float(row.max()), 4))
"""


class About(NamedTuple):
    """What the card tells besides `config.json`."""

    data: dict  # meta.json of the images
    counts: dict[str, int]  # images by split
    params: dict  # blocks of params.yaml
    scores: dict[str, dict] | None  # of this model by split, from metrics.json; None where it has none
    labelled: bool  # whether these scores are against labels
    checked: int  # images on which the files were compared with the network


def card(config: dict, about: About) -> str:
    """The card of a model as Markdown; `config` is what config.json holds."""
    data, input = about.data, config["input"]
    counts = ", ".join(f"{count:,} {split}" for split, count in about.counts.items())
    parts = [
        f"# A classifier into {config['clusters']} clusters (dataset: {_text(data['name'])})",
        f"A network that sorts images into {config['clusters']} clusters. {_origin(about.params)}",
        "| file | |\n|---|---|\n"
        "| `model.onnx` | for ONNX Runtime and others that read ONNX |\n"
        "| `model.pt2` | for `torch.export.load`; needs torch, and none of the code that made it |\n"
        "| `pictures.py` | reads picture files as the models take them |\n"
        "| `config.json` | sizes, channels, normalisation, names of the clusters, SHA-256 of the files above |",
        f"Both models take `images`, uint8 (B, {input['size']}, {input['size']}, {input['channels']}), any number B of "
        f"{'grey' if input['channels'] == 1 else 'RGB'} images with values from 0 to 255, and give `probabilities`, "
        f"float32 (B, {config['clusters']}). Normalisation is inside. On {about.checked:,} test images both gave what "
        "the trained network gives, to within 0.0001.",
        f"## Data\n\n{_text(data['source'])}. As stored: {counts} images of {data['size']} × {data['size']} pixels, "
        f"{data['channels']} channel{'s' if data['channels'] > 1 else ''}.",
        f"## Clusters\n\n{_clusters(config['names'])}",
        f"## Scores\n\n{_scores(about)}",
        "## Use\n\nPictures have to be read as those were that it learnt from: upright, on white where transparent, "
        f"the square in their middle brought to {input['size']} pixels. `read` does that; run in this folder, with "
        f"`pip install numpy 'pillow>=11.3'`:\n\n```python\n{PREPARE}```\n\n"
        f"Then with ONNX Runtime (`pip install onnxruntime`):\n\n```python\n{ONNX}```\n\n"
        f"or with torch (`pip install torch`):\n\n```python\n{TORCH}```\n\n"
        f"and in either case:\n\n```python\n{ANSWER}```",
        "## Limits\n\n"
        "- Labels of these images were never used in training. A cluster is what looked alike to the network, not a "
        "class: it may hold several things, or a part of one. Names were given by people who had looked at clusters.\n"
        "- Every image gets a cluster, also one that shows nothing the network has seen. A high probability does not "
        "mean that an image belongs.\n"
        "- It knows images such as those above; others (another camera, background or cut) may be sorted worse, and "
        "nothing here says how much.\n"
        "- `model.onnx` holds no code. Nor does `model.pt2`, which has tensors and names of operations; but a file "
        "that only pretends to be it could, when torch loads it: compare its SHA-256 with config.json. `pictures.py` "
        "is code, short enough to read.\n"
        "- The licence of this model is for its maker to choose, as far as those of the images, and of weights that "
        "it started from, allow; none is given by this file. `pictures.py` has its own, MIT.",
        f"## Parameters\n\n```yaml\n{yaml.safe_dump(about.params, sort_keys=False, allow_unicode=True)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(params: dict) -> str:
    """How the network was made."""
    pretext, selflabel = params["pretext"], params.get("selflabel", {})
    features = "its features were learnt without labels"
    if pretext["method"] == "frozen":
        features = f"its features are of a network trained elsewhere (weights: {_text(str(pretext['weights']))})"
    heads = ", by linear heads" if params["scan"]["train"] == "heads" else ""
    ending = ", and the network then learns from its own confident answers" if selflabel.get("epochs") else ""
    return (
        "It was trained on images alone, by SCAN (Van Gansbeke et al., ECCV 2020, "
        f"[arXiv 2005.12320](https://arxiv.org/abs/2005.12320)): {features}; an image and its {params['mine']['k']} "
        f"nearest neighbours are given the same cluster{heads}{ending}."
    )


def _text(text: str) -> str:
    """A text from outside as one line of Markdown that is no markup."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|!" else char for char in " ".join(text.split()))


def _clusters(names: list[str]) -> str:
    lines = [f"| {number} | {_text(name)} |" for number, name in enumerate(names)]
    return "\n".join(["| number | name |", "|---|---|", *lines])


def _scores(about: About) -> str:
    if about.scores is None:
        return "None were made of this model."
    keys = [row for row in SCORES if any(row[0] in of for of in about.scores.values())]
    lines = [f"| | {' | '.join(heading for _, heading, _, _ in keys)} |", "|---" * (len(keys) + 1) + "|"]
    for split, of in about.scores.items():
        cells = [f"{factor * of[key]:.{digits}f}" if key in of else "" for key, _, factor, digits in keys]
        lines.append(f"| {split} | {' | '.join(cells)} |")
    said = (
        "Accuracy is that of the best one-to-one matching of clusters to classes. Labels served to compute these "
        "scores and nothing else; test images were never trained on and chose nothing."
        if about.labelled
        else "There are no labels, so there is no accuracy."
    )
    return "\n".join([*lines, "", said])
