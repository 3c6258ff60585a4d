"""The report as one HTML page that needs nothing but itself and a browser: no network, light and dark, phone and desk.

page.css and page.js beside this module are its style and its behaviour.
"""

import base64
import json
from html import escape
from pathlib import Path

from stages.page.exhibit import Cluster, Exhibit
from stages.page.gallery import COLUMNS, KINDS, SHEET

STYLE, SCRIPT = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))

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

TITLES = {
    "typical": "The surest",
    "random": "At random",
    "unsure": "The least sure",
    "torn": "Torn between this group and another",
}


def page(
    name: str,
    metrics: dict,
    shown: Exhibit,
    images: dict[str, list],
    classes: list[str],
    model: str,
    figures: dict[str, tuple[bytes, bytes]],
    duplicates: dict[str, int],
    seconds: dict[str, float],
) -> str:
    """The page's HTML.

    name: what the dataset is called. metrics: the content of metrics.json. images: of those in `shown`, in its order,
    lists `place` (file, or split and row), `cluster`, `confidence`, `margin` and `truth` (number of the class, −1
    without). model: its id, for names.yaml. figures: PNGs by name (`confusion`, `curves`), one for light and one for
    dark screens; a missing one is left out. duplicates: how many `exact` and `near` ones there are, and how many of
    `test` are in train. seconds: by stage, as far as known.
    """
    alive = [cluster for cluster in shown.clusters if cluster.size]
    total = sum(cluster.size for cluster in alive)
    sections = {
        "overview": _overview(name, metrics, total, len(alive)),
        "groups": _groups(shown.clusters, metrics["labelled"]),
        "map": _map(len(shown.points), total),
        "scores": _scores(metrics, figures),
        "duplicates": _duplicates(duplicates, shown),
        "training": _training(figures, seconds),
    }
    links = "".join(f'<a href="#{key}">{key.capitalize()}</a>' for key, text in sections.items() if text)
    body = "\n".join(f'<section id="{key}">{text}</section>' for key, text in sections.items() if text)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(name)} – groups without labels</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Parts of this page"><div>{links}</div></nav>\n<main>\n{body}\n</main>\n{FOOTER}\n'
        f'<script type="application/json" id="data">{_data(shown, images, classes, model)}</script>\n'
        f"<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )


FOOTER = (
    "<footer><div><output id=progress></output><button type=button id=forget hidden>Start over</button>"
    "<button type=button id=download class=main>Download names.yaml</button></div></footer>"
    '<dialog id=enlarged aria-label="An image"><div id=large class=large></div><dl id=facts></dl>'
    "<button type=button id=close>Close</button></dialog>"
)


def _data(shown: Exhibit, images: dict[str, list], classes: list[str], model: str) -> str:
    """What page.js reads, as JSON that may stand inside a script element."""
    content = {
        "model": model,
        "classes": classes,
        "side": shown.side,
        "columns": COLUMNS,
        "perSheet": SHEET,
        "files": any(not text.startswith(("train ", "test ")) for text in images["place"]),
        "clusters": [_cluster(cluster) for cluster in sorted(shown.clusters, key=lambda cluster: cluster.number)],
        "images": images | {"second": shown.second.tolist()},
        "map": {
            "x": shown.plane[:, 0].round(4).tolist(),
            "y": shown.plane[:, 1].round(4).tolist(),
            "image": shown.points,
        },
        "sheets": [base64.b64encode(sheet).decode() for sheet in shown.sheets],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")


def _cluster(cluster: Cluster) -> dict:
    keys = ("number", "called", "name", "merge", "junk", "size", "hue", "kinds")
    return {"class": cluster.klass} | {key: getattr(cluster, key) for key in keys}


def _overview(name: str, metrics: dict, total: int, groups: int) -> str:
    """The title and the few numbers that matter most."""
    return (
        f"<h1>{escape(name)}: {total:,} images in {groups} groups</h1>"
        "<p class=faint>Found without labels: the network learned what images have in common, gave an image and its "
        "neighbours one group, then learned from its own confident answers. Name the groups below and download "
        f"names.yaml.</p>{_cards(metrics)}"
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


def _groups(clusters: list[Cluster], labelled: bool) -> str:
    """Every cluster that holds images, with a form to name it; page.js puts the images in."""
    alive = [cluster for cluster in clusters if cluster.size]
    frames = " A red frame marks an image of another class." if labelled else ""
    parts = [
        "<h2>Groups</h2><p class=faint>Give a group a name, say that it is the same as another one, or set it aside "
        "as junk. Enter goes to the next. Keep the download as names.yaml beside params.yaml, then "
        f"<code>dvc repro</code>: it takes seconds. Press an image to see it large.{frames}</p>"
    ]
    for cluster in alive:
        if not cluster.kinds:
            continue
        number, about = cluster.number, f"{cluster.size:,} images, {cluster.share:.1%} · {cluster.confidence:.0%} sure"
        about = " · ".join(filter(None, [f"cluster {number}", about, escape(cluster.note)]))
        kinds = "".join(
            f"<div><h4>{TITLES[kind]}</h4><div class=tiles data-kind={kind}></div></div>"
            for kind in KINDS
            if cluster.kinds[kind]
        )
        parts.append(
            f'<article class=group data-cluster={number} style="--hue:{cluster.hue:g}" aria-label="cluster {number}">'
            f'<header><i class=dot></i><input type=text value="{escape(cluster.name)}" maxlength=80 autocomplete=off '
            f'placeholder="{escape(cluster.called)}" aria-label="Name of cluster {number}">'
            f'<select aria-label="Merge cluster {number}"><option value="">a group of its own</option></select>'
            f'<label class=junk><input type=checkbox aria-label="Cluster {number} is junk">junk</label></header>'
            f"<p class=about>{about}</p>"
            f'<div class=bar><i style="width:{100 * cluster.share:.1f}%"></i></div>'
            f"<div class=kinds>{kinds}</div></article>"
        )
    hidden = sum(not cluster.kinds for cluster in alive)
    if hidden:
        parts.append(f"<p class=faint>{hidden} smaller groups are not shown; assignments.csv has them.</p>")
    empty = [str(cluster.number) for cluster in clusters if not cluster.size]
    if empty:
        parts.append(f"<p class=faint>Without images: cluster {', '.join(empty)}.</p>")
    return "".join(parts)


def _map(points: int, total: int) -> str:
    """The place of the map."""
    which = f"{points:,} of the {total:,} images, drawn at random" if points < total else f"All {total:,} images"
    return (
        f"<h2>Map</h2><p class=faint>{which}, near what the network finds alike (t-SNE of the embeddings; "
        "distances across the map mean little). Point at a dot to see its image; turn the wheel or pinch to zoom, drag "
        "to move. Keys: arrows, + and −, 0 for all, space for the dot in the middle, Enter to enlarge it.</p>"
        '<div id=plane><canvas id=canvas tabindex=0 role=img aria-label="Map of the images, in the colours of their '
        'groups"></canvas><div class=zoom><button type=button id=closer aria-label="Zoom in">+</button>'
        '<button type=button id=farther aria-label="Zoom out">−</button>'
        '<button type=button id=whole aria-label="Show all">⤢</button></div>'
        "<div id=tip class=tip><i></i><span></span></div></div>"
        '<div id=chips class=chips role=group aria-label="Show one group only"></div>'
    )


def _scores(metrics: dict, figures: dict[str, tuple[bytes, bytes]]) -> str:
    """All numbers, of the three models; with labels, what was mistaken for what."""
    parts = [
        "<h2>Scores</h2><p class=faint>Of test images, which trained nothing.</p>",
        _models(metrics, "test"),
        f"<details><summary>The same for the images it was trained on</summary>{_models(metrics, 'train')}</details>",
        _embeddings(metrics["embeddings"]),
    ]
    if "confusion" in figures:
        split = "test" if "acc" in metrics["selflabel"]["test"] else "train"
        parts += [
            "<h2>Which classes are mistaken for which</h2>",
            f"<p class=faint>Self-label on {split} images. Each row is a true class and sums to 100%; each column is a "
            "cluster under the name of the class it is matched with. Off the diagonal are mistakes.</p>",
            _picture("confusion matrix", *figures["confusion"]),
            _recall(metrics["selflabel"][split]["recall"]),
        ]
    return "".join(parts)


def _recall(recall: dict[str, float]) -> str:
    """What share of each class lies in its cluster."""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td><span class=meter><i style=width:{100 * share:.1f}%></i></span>"
        f"{share:.1%}</td></tr>"
        for name, share in recall.items()
    )
    return (
        "<details open><summary>Recall of each class: the share of its images in its cluster</summary>"
        f"<table><tbody>{rows}</tbody></table></details>"
    )


def _duplicates(counts: dict[str, int], shown: Exhibit) -> str:
    """How many images there are twice, and some of them beside their originals; empty without any."""
    if not counts["exact"] + counts["near"]:
        return ""
    pairs = "".join(
        f'<div data-pair="[{first},{copy}]"><small>{kind}</small></div>' for first, copy, kind in shown.pairs
    )
    return (
        f"<h2>Duplicates</h2><p class=faint>{counts['exact']:,} images equal an earlier one exactly, "
        f"{counts['near']:,} nearly (the same picture saved again); {counts['test']:,} test images are in train, too. "
        "They share the neighbours of the first one, so that none learns from its copies alone, unless too few others "
        f"are of its kind. assignments.csv names them.</p><div class=pairs>{pairs}</div>"
    )


def _training(figures: dict[str, tuple[bytes, bytes]], seconds: dict[str, float]) -> str:
    """Curves, and how long everything took."""
    parts = ["<h2>Training</h2>"]
    if "curves" in figures:
        parts.append(
            "<p class=faint>Every column of the training histories. Losses of different stages do not compare. SCAN's "
            "is negative where it goes well: it is how much neighbours disagree, which is 0 or more, minus λ times the "
            "entropy of the clusters' mean use, which is log(clusters) at most.</p>"
            + _picture("training curves", *figures["curves"])
        )
    if seconds:
        everything = {**seconds, "together": sum(seconds.values())}
        rows = "".join(
            f"<tr><th scope=row>{escape(stage)}</th><td>{_duration(taken)}</td></tr>"
            for stage, taken in everything.items()
        )
        parts.append(
            "<details open><summary>How long it took</summary><p class=faint>When each stage last ran on this machine; "
            "one that was interrupted, since it went on.</p>"
            f"<table><tbody>{rows}</tbody></table></details>"
        )
    return "".join(parts) if len(parts) > 1 else ""


def _duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


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
