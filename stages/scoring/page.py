"""The report as one HTML page that needs nothing but itself: no script, no network, light and dark, phone and desk."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from stages.scoring.figures import Group, tile

GROUPS = 200  # clusters whose images the page shows; with more it would take long to open
SIDE = 96  # pixels that an image takes on the page at most

# What is shown of each model: key in metrics.json, what people call it, what it means.
NUMBERS = (
    ("acc", "Accuracy", "share of images in the cluster that is matched with their class, one cluster for each class"),
    ("nmi", "NMI", "what clusters tell about classes and classes about clusters; 1: the same, 0: nothing"),
    ("ari", "ARI", "pairs of images on which clusters and classes agree, beyond chance; 1: all, 0: chance"),
    ("ami", "AMI", "NMI with chance taken off; fairer when there are many clusters"),
    ("majority_acc", "Majority accuracy", "every cluster counts as its commonest class; more clusters always help it"),
    ("confidence", "Mean confidence", "largest probability of an image, on average"),
    ("confident", "Confident images", "share of images with a probability above 0.99"),
    ("entropy", "Balance", "entropy of the clusters' mean use; 1: all equally used, 0: only one"),
    ("clusters_alive", "Clusters in use", "clusters that hold at least one image"),
    ("largest", "Largest cluster", "its share of the images"),
    ("smallest", "Smallest cluster", "its share of the images"),
)
MODELS = (("kmeans", "k-means"), ("scan", "SCAN"), ("selflabel", "Self-label"))
EMBEDDINGS = (
    ("purity_1", "Nearest neighbour", "the nearest other image is of the same class"),
    ("purity_5", "Among 5 neighbours", "share of the 5 nearest that are of the same class"),
    ("purity_20", "Among 20 neighbours", "share of the 20 nearest that are of the same class"),
    ("knn_acc", "kNN accuracy", "test images that their nearest train images would label rightly"),
)

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --panel: #f5f7fa; --ink: #1b2230; --faint: #667085;
  --line: #e3e7ee; --accent: #1f5fbf; --wrong: #d6453d; }
@media (prefers-color-scheme: dark) { :root { --ground: #171b22; --panel: #1f252e; --ink: #e8ebf0; --faint: #98a2b3;
  --line: #2c333f; --accent: #79b0f5; --wrong: #f2766e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.8rem 0 .3rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.faint, small { color: var(--faint); }
small { font-size: .82rem; line-height: 1.35; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1.4rem 0; }
.card { background: var(--panel); border-radius: .6rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span, .card small { display: block; }
.card span { font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .4rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child { text-align: left; font-weight: 600; padding-left: 0; }
th small { display: block; font-weight: 400; }
thead th { color: var(--faint); font-weight: 600; white-space: nowrap; }
td:last-child { font-weight: 600; }
summary { cursor: pointer; color: var(--accent); padding: .4rem 0; }
.group { border-top: 1px solid var(--line); padding: .9rem 0; }
.group header { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline; }
.bar { height: 4px; background: var(--panel); border-radius: 2px; margin: .35rem 0 .6rem; }
.bar i { display: block; height: 100%; min-width: 2px; background: var(--accent); border-radius: 2px; }
.tiles { display: grid; grid-template-columns: repeat(12, 1fr); gap: 6px; }
.tiles img { width: 100%; aspect-ratio: 1; border-radius: 4px; background: var(--panel); }
.tiles img.wrong { outline: 2px solid var(--wrong); }
.figure { overflow-x: auto; margin: .6rem 0; }
.figure img { display: block; max-width: 100%; height: auto; }
@media (max-width: 34rem) { main { padding-top: 1.2rem; } .tiles { grid-template-columns: repeat(6, 1fr); }
  .figure img { min-width: 40rem; }
  .models tr { display: grid; grid-template-columns: repeat(3, 1fr); border-bottom: 1px solid var(--line); }
  .models th, .models td { border: 0; text-align: left; padding: .15rem 0; }
  .models th:first-child { grid-column: 1 / -1; } }
"""


def page(name: str, metrics: dict, groups: list[Group], figures: dict[str, tuple[bytes, bytes]]) -> str:
    """The page's HTML.

    name: what the dataset is called. metrics: the content of metrics.json. groups: self-label's clusters on test.
    figures: PNGs by name (`confusion`, `curves`), one for light and one for dark screens; a missing one is left out.
    """
    alive = [group for group in groups if group.size]
    images = sum(group.size for group in groups)
    sections = [
        f"<h1>{escape(name)}: {images:,} images in {len(alive)} groups</h1>",
        "<p class=faint>Groups that SCAN found without labels: it learned what images have in common, gave an image "
        "and its neighbours one group, then learned from its own confident answers. Shown are test images, which "
        "trained nothing.</p>",
        _cards(metrics),
        _groups(groups, metrics["labelled"]),
        "<h2>How good it is</h2>",
        _models(metrics, "test"),
        f"<details><summary>The same for the images it was trained on</summary>{_models(metrics, 'train')}</details>",
        _embeddings(metrics["embeddings"]),
    ]
    if "confusion" in figures:
        split = "test" if "acc" in metrics["selflabel"]["test"] else "train"
        sections += [
            "<h2>Which classes are mistaken for which</h2>",
            f"<p class=faint>Self-label on {split} images. Each row is a true class and sums to 100%; each column is a "
            "cluster under the name of the class it is matched with. Off the diagonal are mistakes.</p>",
            _picture("confusion matrix", *figures["confusion"]),
        ]
    sections += [
        "<h2>How training went</h2>",
        "<p class=faint>Every column of the training histories. Losses of different stages do not compare; SCAN's may "
        "be negative, as it rewards entropy.</p>",
        _picture("training curves", *figures["curves"]),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)} – groups without labels</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _cards(metrics: dict) -> str:
    """The few numbers that matter most, large."""
    result = metrics["selflabel"]["test"]
    keys = ("acc", "nmi", "ari") if "acc" in result else ("confidence", "confident", "entropy")
    keys += ("majority_acc",) if "majority_acc" in result else ("clusters_alive",)
    cards = [
        f"<div class=card><b>{_number(key, result[key])}</b><span>{title}</span><small>{meaning}</small></div>"
        for key, title, meaning in NUMBERS
        if key in keys
    ]
    hint = (
        "" if metrics["labelled"] else "<p>There are no labels, so nothing here says whether the groups are right.</p>"
    )
    return f"<div class=cards>{''.join(cards)}</div>{hint}"


def _models(metrics: dict, split: str) -> str:
    """A table of all numbers of the models on one split."""
    rows = []
    for key, title, meaning in NUMBERS:
        values = [metrics[model][split].get(key) for model, _ in MODELS]
        if any(value is not None for value in values):
            cells = "".join(f"<td>{_number(key, value)}</td>" for value in values)
            rows.append(f"<tr><th scope=row>{title}<small>{meaning}</small></th>{cells}</tr>")
    heads = "".join(f"<th scope=col>{title}</th>" for _, title in MODELS)
    head = f"<thead><tr><th>{split} images</th>{heads}</tr></thead>"
    return f"<table class=models>{head}<tbody>{''.join(rows)}</tbody></table>"


def _embeddings(found: dict[str, float]) -> str:
    """What the neighbours say that SCAN learns from; empty without labels."""
    rows = [
        f"<tr><th scope=row>{title}<small>{meaning}</small></th><td>{_number(key, found[key])}</td></tr>"
        for key, title, meaning in EMBEDDINGS
        if key in found
    ]
    if not rows:
        return ""
    return (
        "<h2>What it learned from</h2><p class=faint>SCAN gives neighbours one group, so it can hardly do better than "
        f"its neighbours are.</p><table><tbody>{''.join(rows)}</tbody></table>"
    )


def _groups(groups: list[Group], labelled: bool) -> str:
    """Every cluster that holds images, with its most confident ones."""
    alive = [group for group in groups if group.size]
    frames = (
        " A red frame marks an image of another class; rest on an image to read which."
        if any(group.truths for group in alive)
        else ""
    )
    parts = [f"<h2>The groups</h2><p class=faint>The test images that each is surest of.{frames}</p>"]
    for group in alive[:GROUPS]:
        tiles = []
        for i, image in enumerate(group.images):
            title = f' title="{escape(group.truths[i])}"' if group.truths else ""
            mark = " class=wrong" if group.wrong and group.wrong[i] else ""
            tiles.append(f'<img{mark}{title} alt="image {i + 1}" src="{_data(image)}">')
        about = " · ".join(
            text
            for text in (
                "" if group.name == f"cluster {group.number}" else f"cluster {group.number}",
                f"{group.size:,} images, {group.share:.1%}",
                escape(group.note),
            )
            if text
        )
        parts.append(
            f"<section class=group><header><h3>{escape(group.name)}</h3><small>{about}</small></header>"
            f'<div class=bar><i style="width:{100 * group.share:.1f}%"></i></div>'
            f"<div class=tiles>{''.join(tiles)}</div></section>"
        )
    if len(alive) > GROUPS:
        parts.append(f"<p class=faint>{len(alive) - GROUPS} more groups are not shown.</p>")
    empty = [str(group.number) for group in groups if not group.size]
    if empty:
        parts.append(f"<p class=faint>Without test images: cluster {', '.join(empty)}.</p>")
    return "".join(parts)


def _data(image: np.ndarray) -> str:
    """An image uint8 (H, W, C) as a data URI: small ones exactly, larger ones as JPEG."""
    buffer, side = io.BytesIO(), min(SIDE, len(image))
    kind = "png" if side <= 32 else "jpeg"
    picture = Image.fromarray(tile(image, side))
    if image.shape[-1] == 1:
        picture = picture.convert("L")
    picture.save(buffer, format=kind, **({"optimize": True} if kind == "png" else {"quality": 82}))
    return _uri(kind, buffer.getvalue())


def _picture(what: str, light: bytes, dark: bytes) -> str:
    """A figure in the colours of the reader's screen."""
    return (
        f'<div class=figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_uri("png", dark)}">'
        f'<img alt="{what}" src="{_uri("png", light)}"></picture></div>'
    )


def _uri(kind: str, content: bytes) -> str:
    """Bytes as a data URI of an image."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _number(key: str, value: float | None) -> str:
    """A metric for people."""
    if value is None:
        return "–"
    if key == "clusters_alive":
        return f"{value:,}"
    return f"{value:.3f}" if key in ("nmi", "ari", "ami", "entropy") else f"{100 * value:.1f}%"
