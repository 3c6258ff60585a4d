"""Figures as PNG bytes: equal input gives equal bytes, whatever the machine's matplotlib settings."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from stages.page.gallery import coloured

DPI = 110
LIMIT = 300_000  # bytes: figures live in git
MARKED = 24  # columns up to which the cells of a confusion matrix have room for numbers
ROWS = 40  # clusters that the figure of prototypes shows at most


@dataclass(frozen=True)
class Theme:
    """Colours of a figure: its ground, text, lines, and what it points out."""

    ground: str
    ink: str
    faint: str
    line: str
    accent: str
    series: tuple[str, str, str]
    wrong: str


LIGHT = Theme("#ffffff", "#1b2230", "#667085", "#e3e7ee", "#1f5fbf", ("#a9b4c4", "#6aa5e8", "#1f5fbf"), "#d6453d")
DARK = Theme("#171b22", "#e8ebf0", "#98a2b3", "#2c333f", "#79b0f5", ("#566173", "#3d75bd", "#79b0f5"), "#f2766e")


class Prototypes(NamedTuple):
    """The most typical images of a cluster, which are a row of the figure."""

    number: int
    name: str  # its class, or else "cluster 7"
    size: int
    images: np.ndarray  # uint8 (n, H, W, C), most confident first
    wrong: np.ndarray  # bool (n,): whether an image's class is known and another than the cluster's


def settings(theme: Theme) -> dict:
    """Matplotlib's settings in the colours of a theme."""
    return {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.parse_math": False,  # a class may be called "5$ notes"
        "figure.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.line,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.line,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "axes.labelcolor": theme.faint,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.faint,
        "ytick.labelcolor": theme.faint,
    }


def themed(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """Turn a function that draws a Figure into one that returns it as PNG, in the colours of its argument `theme`."""

    @wraps(draw)
    def render(*arguments, theme: Theme = LIGHT) -> bytes:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(settings(theme))
            buffer = io.BytesIO()
            draw(*arguments, theme).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    return render


@themed
def confusion(table: np.ndarray, rows: list[str], columns: list[str], theme: Theme) -> Figure:
    """Confusion matrix (classes, classes + rest), each row a distribution; the rest are clusters without a class."""
    classes = len(rows)
    if table.shape[1] > classes + 10:  # the table that evaluate writes has each of them
        table = np.hstack([table[:, :classes], table[:, classes:].sum(axis=1, keepdims=True)])
        columns = [*columns[:classes], "other clusters"]
    width = table.shape[1]
    cell = 0.46 if width <= MARKED else 8.5 / width
    size = 9 if width <= MARKED else min(9, cell * 72 * 0.8)  # of the names, in points
    names = [short(name) for name in rows], [short(name) for name in columns]
    left, below = (0.5 + size / 9 * room * max(map(len, part)) for part, room in zip(names, (0.085, 0.058)))
    right, above = 0.3, 0.4  # inches, as the two before
    title = 3.3  # inches that it takes from the cells' left edge on, where these are few
    wide, high = left + max(cell * width + right, title), below + cell * classes + above
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((left / wide, below / high, cell * width / wide, cell * classes / high))
    shades = LinearSegmentedColormap.from_list("", [theme.ground, theme.accent])
    axes.imshow(table, cmap=shades, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    if width <= MARKED:
        _mark_cells(axes, table, theme)
    if width > classes:
        axes.axvline(classes - 0.5, color=theme.faint, linewidth=1.5)
    if size >= 4:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(width), names[1], fontsize=size, **slanted)
        axes.set_yticks(range(classes), names[0], fontsize=size)
    else:
        axes.set(xticks=[], yticks=[])
    axes.set_xlabel("cluster, matched with a class")
    axes.set_ylabel("true class")
    axes.set_title("Where the images of each class went, in %")
    return figure


def _mark_cells(axes: Axes, table: np.ndarray, theme: Theme) -> None:
    """Lines between the cells of a confusion matrix and the percentages in them."""
    for y, x in np.argwhere(table >= 0.005):
        on_accent = theme.ground if table[y, x] > 0.55 else theme.ink
        axes.text(x, y, f"{100 * table[y, x]:.0f}", ha="center", va="center", color=on_accent, fontsize=8.5)
    for edge in range(1, table.shape[0]):
        axes.axhline(edge - 0.5, color=theme.line, linewidth=0.6)
    for edge in range(1, table.shape[1]):
        axes.axvline(edge - 0.5, color=theme.line, linewidth=0.6)


@themed
def scores(found: dict[str, dict[str, float]], theme: Theme) -> Figure:
    """Bars for each metric, one of each model. `found`: {model: {metric: value in [0, 1]}}, equal metrics in each."""
    names = list(next(iter(found.values())))
    figure = Figure(figsize=(1.2 + 1.7 * len(names), 3), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(found)
    for position, ((model, values), colour) in enumerate(zip(found.items(), theme.series)):
        x = np.arange(len(names)) + (position - (len(found) - 1) / 2) * width
        axes.bar(x, list(values.values()), width * 0.92, color=colour, label=model)
        for at, value in zip(x, values.values()):
            axes.text(at, max(value, 0) + 0.015, f"{100 * value:.1f}", ha="center", fontsize=8)
    axes.set_xticks(range(len(names)), names, color=theme.ink)
    axes.set(ylim=(min(0, *(v for values in found.values() for v in values.values())), 1.05), yticks=[])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=len(found), frameon=False)
    return figure


@themed
def curves(histories: dict[str, pd.DataFrame], theme: Theme) -> Figure:
    """One row of panels a stage, one panel a column of its history; float columns, `epoch` among them.

    Where the epochs of a stage begin anew, a second phase does; a line marks it.
    """
    # The losses first; the learning rate, which only follows its schedule, last.
    terms = {
        stage: sorted((name for name in history if name != "epoch"), key=lambda name: name == "lr")
        for stage, history in histories.items()
    }
    width = max(1, *(len(names) for names in terms.values()))
    wide, high, gap = 2.25 * width + 0.2, 1.75 * len(histories) + 0.3, 0.55  # inches
    figure = Figure(figsize=(wide, high))
    edges = {"left": gap / wide, "right": 1 - 0.1 / wide, "bottom": 0.45 / high, "top": 1 - 0.3 / high}
    panels = figure.subplots(
        len(histories), width, squeeze=False, gridspec_kw={**edges, "wspace": gap / 1.65, "hspace": gap / 1.15}
    )
    for row, (stage, history) in zip(panels, histories.items()):
        for axes, name in zip(row, terms[stage]):
            _curve(axes, history["epoch"], history[name], theme)
            axes.set_title(short(f"{stage} · {name}", 32))
        for axes in row[len(terms[stage]) :]:
            axes.remove()
    panels[-1][0].set_xlabel("epoch", fontsize=8)
    return figure


def _curve(axes: Axes, epoch: pd.Series, values: pd.Series, theme: Theme) -> None:
    """One panel: the values of a column, in pieces where epochs begin anew."""
    phases = np.flatnonzero(epoch.diff() <= 0)
    epochs = np.arange(1, len(epoch) + 1)
    line = {"color": theme.accent, "linewidth": 1.6, "marker": "o", "markersize": 2}
    for x, y in zip(np.split(epochs, phases), np.split(values.to_numpy(), phases)):
        axes.plot(x, y, **line)
    for start in phases:
        axes.axvline(start + 0.5, color=theme.faint, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter("{x:.3g}")
    if values.nunique() == 1:  # room around a constant invites ticks with many digits
        axes.set_yticks(values.dropna().unique())
    axes.tick_params(length=0, labelsize=7.5)


def prototypes(clusters: list[Prototypes]) -> bytes:
    """A row of images for each cluster, most confident first, those of another class than the cluster's framed red."""
    for side in (64, 56, 48, 40, 32, 24, 16):
        png = _prototypes(clusters, side)
        if len(png) > LIMIT:
            # Photographs compress badly; 256 colours take a quarter of the room and are enough for a look. This way of
            # choosing them keeps rare ones, such as the frames' red.
            image = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
            buffer = io.BytesIO()
            image.save(buffer, format="png", optimize=True)
            png = buffer.getvalue()
        if len(png) <= LIMIT:
            break
    return png


@themed
def _prototypes(clusters: list[Prototypes], side: int, theme: Theme) -> Figure:
    """The figure of `prototypes` with images `side` pixels wide."""
    step, left, border = side + 6, 190, 12
    row = max(step, 36)  # two lines of text
    shown, rest = clusters[:ROWS], len(clusters) - ROWS
    columns = max(1, *(len(cluster.images) for cluster in shown))
    height, width = row * (len(shown) + (rest > 0)) + 2 * border, left + step * columns + border
    canvas = np.full((height, width, 3), _rgb(theme.ground), dtype=np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI))
    for place, cluster in enumerate(shown):
        top = border + row * place
        for column, image in enumerate(cluster.images):
            x = left + step * column
            if cluster.wrong[column]:
                canvas[top - 2 : top + side + 2, x - 2 : x + side + 2] = _rgb(theme.wrong)
            tile = coloured(image).resize((side, side), Image.Resampling.LANCZOS)
            canvas[top : top + side, x : x + side] = np.asarray(tile)
        y = 1 - (top + side / 2) / height
        called = f"cluster {cluster.number}"
        about = f"{cluster.size:,} images" if cluster.name == called else f"{called} · {cluster.size:,}"
        figure.text(border / width, y, short(cluster.name), va="bottom", fontsize=9, fontweight="bold")
        figure.text(border / width, y, about, va="top", color=theme.faint, fontsize=7.5, linespacing=1.6)
    if rest > 0:
        figure.text(border / width, (border + row / 2) / height, f"and {rest} more clusters", color=theme.faint)
    figure.figimage(canvas, zorder=-1)
    return figure


def short(name: str, length: int = 20) -> str:
    """A name cut to what a figure has room for."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _rgb(colour: str) -> np.ndarray:
    """A colour #rrggbb as three numbers up to 255."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)
