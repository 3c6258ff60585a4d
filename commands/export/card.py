"""The model card: what an exported model is, in Markdown, for whoever finds its folder without this project."""

from pathlib import Path
from typing import NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

# What is told of each split: key in metrics.json, heading, factor, digits.
SCORES = (
    ("acc", "ACC %", 100, 1),
    ("nmi", "NMI %", 100, 1),
    ("ari", "ARI %", 100, 1),
    ("clusters_alive", "clusters in use", 1, 0),
    ("confidence", "mean confidence %", 100, 1),
    ("confident", "surer than 99 %, %", 100, 1),
)
MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_~{}[]<>#|!&"})


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
    columns = [row for row in SCORES if any(row[0] in found for found in (about.scores or {}).values())]
    params = yaml.safe_dump(about.params, sort_keys=False, allow_unicode=True)
    return TEMPLATE.render(config=config, **about._asdict(), columns=columns, yaml=params)


def plain(value: object) -> object:
    """A value as one line of Markdown that is no markup, but for what a template calls safe."""
    return value if hasattr(value, "__html__") else " ".join(str(value).split()).translate(MARKUP)


# `finalize` is given whatever double braces hold, so that no template can forget to escape it.
TEMPLATE = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    finalize=plain,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
).get_template("card.md.jinja")
