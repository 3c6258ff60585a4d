"""The report as one HTML page that needs nothing but itself and a browser: no network, light and dark, phone and desk.

template.html holds its text, style.css its looks, and script.js what it does.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.page.contents import Contents
from stages.page.gallery import COLUMNS, SHEET


class Number(NamedTuple):
    """A number of metrics.json, and how people see it."""

    key: str
    title: str
    meaning: str
    form: str = "{:.1%}"

    def show(self, value: float | None) -> str:
        """The number as text; a dash where there is none."""
        return "–" if value is None else self.form.format(value)


NUMBERS = (
    Number(
        "acc", "Accuracy", "share of images in the cluster that is matched with their class, one cluster for each class"
    ),
    Number(
        "nmi", "NMI", "what clusters tell about classes and classes about clusters; 1: the same, 0: nothing", "{:.3f}"
    ),
    Number(
        "ari", "ARI", "pairs of images on which clusters and classes agree, beyond chance; 1: all, 0: chance", "{:.3f}"
    ),
    Number("ami", "AMI", "NMI with chance taken off; fairer when there are many clusters", "{:.3f}"),
    Number(
        "majority_acc", "Majority accuracy", "every cluster counts as its commonest class; more clusters always help it"
    ),
    Number("confidence", "Mean confidence", "largest probability of an image, on average"),
    Number("confident", "Confident images", "share of images with a probability above 0.99"),
    Number("entropy", "Balance", "entropy of the clusters' mean use; 1: all equally used, 0: only one", "{:.3f}"),
    Number("clusters_alive", "Clusters in use", "clusters that hold at least one image", "{:,}"),
    Number("largest", "Largest cluster", "its share of the images"),
    Number("smallest", "Smallest cluster", "its share of the images"),
)
EMBEDDINGS = (
    Number("purity_1", "Nearest neighbour", "the nearest other image is of the same class"),
    Number("purity_5", "Among 5 neighbours", "share of the 5 nearest that are of the same class"),
    Number("purity_20", "Among 20 neighbours", "share of the 20 nearest that are of the same class"),
    Number("knn_acc", "kNN accuracy", "test images that their nearest train images would label rightly"),
)
MODELS = {"kmeans": "k-means", "scan": "SCAN", "selflabel": "Self-label"}
KINDS = {
    "typical": "The surest",
    "random": "At random",
    "unsure": "The least sure",
    "torn": "Torn between this group and another",
}


def render(
    name: str,
    model: str,
    contents: Contents,
    metrics: dict,
    figures: dict[str, tuple[bytes, bytes]],
    seconds: dict[str, float],
) -> str:
    """The page's HTML.

    name: what the dataset is called. model: its id, for names.yaml. metrics: the content of metrics.json. figures: PNGs
    by name (`confusion`, `curves`), one for light and one for dark screens; a missing one is left out. seconds: by
    stage, as far as known.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["duration"] = duration
    finetuned = metrics["selflabel"] != metrics["scan"]  # else it is a copy: selflabel.epochs = 0
    models = {key: title for key, title in MODELS.items() if finetuned or key != "selflabel"}
    return environment.get_template("template.html").render(
        contents._asdict(),
        name=name,
        metrics=metrics,
        figures={key: [png_uri(png) for png in pair] for key, pair in figures.items()},
        seconds=seconds,
        cards=table(headline(metrics), [metrics["selflabel"]["test"]]),
        finetuned=finetuned,
        models=list(models.values()),
        scores={split: table(NUMBERS, [metrics[key][split] for key in models]) for split in ("test", "train")},
        neighbours=table(EMBEDDINGS, [metrics["embeddings"]]),
        kinds=KINDS,
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=(folder / "script.js").read_text(encoding="utf-8"),
        data=script_data(model, contents),
    )


def headline(metrics: dict) -> list[Number]:
    """The few numbers that matter most: accuracies where test has labels."""
    found = metrics["selflabel"]["test"]
    keys = ("acc", "nmi", "ari") if "acc" in found else ("confidence", "confident", "entropy")
    last = "majority_acc" if "majority_acc" in found else "clusters_alive"
    return [number for number in NUMBERS if number.key in (*keys, last)]


def table(numbers: Iterable[Number], columns: list[dict]) -> list[tuple[Number, list[str]]]:
    """Rows of a table: the numbers that any column has, and what each column says of them."""
    rows = [(number, [column.get(number.key) for column in columns]) for number in numbers]
    return [(number, [*map(number.show, values)]) for number, values in rows if any(v is not None for v in values)]


def script_data(model: str, contents: Contents) -> dict:
    """What script.js reads: the images on their sheets, the clusters by number, and what is told of each image."""
    shown = contents.shown
    keys = ("number", "matched", "called", "name", "merge", "junk", "size", "hue")
    return {
        "model": model,
        "classes": contents.classes,
        "side": shown.side,
        "columns": COLUMNS,
        "perSheet": SHEET,
        "files": contents.files,
        "clusters": [
            {key: getattr(cluster, key) for key in keys} | {"kinds": shown.kinds.get(cluster.number, {})}
            for cluster in sorted(contents.clusters)
        ],
        "images": contents.images | {"second": shown.second.tolist()},
        "map": {
            "x": shown.plane[:, 0].round(4).tolist(),
            "y": shown.plane[:, 1].round(4).tolist(),
            "image": shown.points,
        },
        "sheets": [base64.b64encode(sheet).decode() for sheet in shown.sheets],
    }


def duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def png_uri(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
