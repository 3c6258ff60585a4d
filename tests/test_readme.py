"""The README and docs/: figures are those of the committed reports, on whatever page; links and commands exist."""

import importlib.util
import json
import re
import statistics

import pandas as pd
import pytest
from project import head

REPORTS = head() / "reports"
PAGES = {path.relative_to(head()).as_posix(): path.read_text() for path in sorted(head().glob("docs/*.md"))}
PAGES["README.md"] = (head() / "README.md").read_text()
TEXT = " ".join("\n".join(PAGES.values()).split())  # without line ends, which may fall anywhere in a sentence
METRICS = json.loads((REPORTS / "metrics.json").read_text())
METHODS = {"k-means on the embeddings": "kmeans", "SCAN": "scan", "+ self-labeling": "selflabel"}
SCORES = {
    "ACC %": ("test", "acc"),
    "NMI %": ("test", "nmi"),
    "ARI %": ("test", "ari"),
    "ACC % on train": ("train", "acc"),
}


def tables(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, bold or not, the header first and without the line below it."""
    found = re.findall(r"(?:^\|.*\|\n)+", page + "\n", re.MULTILINE)
    return [
        [
            [cell.strip().strip("*") for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if "---" not in line
        ]
        for table in found
    ]


def holds(*cells: str) -> bool:
    """Whether a table on some page has a row that begins so, and no table one that begins with the first cell only."""
    rows = [row for page in PAGES.values() for table in tables(page) for row in table]
    found = [row[: len(cells)] for row in rows if row[0] == cells[0] and len(row) >= len(cells)]
    return bool(found) and all(row == list(cells) for row in found)


def percent(share: float) -> str:
    """A share as the pages show it."""
    return f"{100 * share:.1f}"


# ------------------------------------------------------------------------------------------------------------- results


def test_every_table_of_results_is_the_committed_run():
    places = set()
    for name, page in PAGES.items():
        for header, *rows in tables(page):
            for row in [row for row in rows if row[0] in METHODS and set(header) & set(SCORES)]:
                scores = METRICS[METHODS[row[0]]]
                for title, cell in zip(header[1:], row[1:], strict=True):
                    split, key = SCORES[title]
                    assert cell == percent(scores[split][key]), f"{name}: {row[0]}, {title}"
                places.add((name, row[0]))
    assert {("README.md", method) for method in METHODS} <= places


def test_the_neighbours_and_baselines_named_in_the_text_are_the_committed_ones():
    said = re.findall(r"(\d\d\.\d) % of an image's 20 nearest .*?(\d\d\.\d) %", TEXT)
    assert said
    assert {*said} == {tuple(percent(METRICS["embeddings"][key]) for key in ("purity_20", "knn_acc"))}
    pixels, supervised = re.search(
        r"k-means on the pixels reaches (\d\d\.\d) % .*? labels reaches (\d\d\.\d) %", TEXT
    ).groups()
    for name, share in {"pixels": pixels, "supervised": supervised}.items():
        assert share == percent(json.loads((REPORTS / f"baselines/{name}.json").read_text())["test"]["acc"])


def test_the_table_of_seeds_is_the_committed_one():
    for preset, scores in json.loads((REPORTS / "seeds.json").read_text()).items():
        lists = [scores[key] for key in ("kmeans_acc", "scan_acc", "acc")]
        assert holds(preset, f"{len(scores['seeds'])}", *(spread(shares) for shares in lists)), preset


def spread(shares: list[float]) -> str:
    """Mean ± standard deviation, in percent."""
    return f"{percent(statistics.mean(shares))} ± {percent(statistics.stdev(shares))}"


def test_the_table_of_networks_is_the_committed_one():
    table = pd.read_csv(REPORTS / "backbones.csv")
    for network, rows in table.groupby("backbone"):
        purity = dict(zip(rows.seconds, rows.purity_20))
        assert holds(network, *(percent(purity[time]) if time in purity else "–" for time in (100, 400))), network


def test_the_run_in_slices_is_the_committed_one():
    metrics = json.loads((REPORTS / "runs/cifar10-jpeg-small.json").read_text())["metrics"]
    shares = [percent(metrics[method]["test"]["acc"]) for method in ("selflabel", "kmeans")]
    assert re.search(rf"{shares[0]} % after self-labeling, and k-means on the same embeddings {shares[1]} %", TEXT)


# ---------------------------------------------------------------------------------------------------------- benchmarks


def test_the_table_of_benchmarks_is_the_committed_one():
    rows = json.loads((REPORTS / "benchmarks.json").read_text())
    for row in rows:
        target = "" if row["target"] is None else f"{'≤' if row['at_most'] else '≥'} {row['target']:g}"
        numbers = (f"{row[key]:,.4g}" if row[key] < 1000 else f"{row[key]:,.0f}" for key in ("usual", "ours"))
        assert holds(row["row"], *numbers, row["unit"], f"{row['ratio']:.2f}", target), row["row"]
    ceilings = [found[1] for row in rows if (found := re.search(r"at all of it, ([\d.]+)×", row["note"]))]
    assert f"the four ratios would be {', '.join(ceilings[:-1])} and {ceilings[-1]}" in TEXT


def test_the_table_of_scale_is_the_committed_one():
    for stage, rows in pd.read_csv(REPORTS / "scale.csv").groupby("stage"):
        seconds = [f"{value:,.0f}" for value in rows.seconds]
        assert holds(stage, *seconds, f"{rows.exponent.iloc[-1]:.2f}", f"{rows.gigabytes.max():.2f}"), stage


def test_the_table_of_duplicates_is_the_committed_one():
    table = pd.read_csv(REPORTS / "duplicates.csv", dtype={"seconds": str})
    rows = [
        [f"{row.images:,}", f"{row.found:,}", row.seconds, f"{row.megabytes}"]
        for row in table[table.kind == "smooth"].itertuples()
    ]
    shown = next(
        found for page in PAGES.values() for found in tables(page) if found[0][:2] == ["images", "of these copies"]
    )
    assert len(shown) > 2
    assert not [row for row in shown[1:] if row not in rows]


COPIES = {
    "cameras": "four fixed cameras",
    "bursts": "60 scenes of five kinds, five shots of each",
    "few bursts": "five scenes of 3 to 60 shots",
    "camera beside kinds": "a camera beside three kinds",
    "pile in a kind": "a pile of 51 among 120 of its kind",
    "digits": "digits, 5 % of them twice",
}


def test_the_table_of_copies_is_the_committed_one():
    table = pd.read_csv(REPORTS / "copies.csv")
    assert set(COPIES) == set(table["set"])
    for name, rows in table.groupby("set"):
        assert rows.neighbours.tolist() == ["all", "different", "rule"]
        cells = [" / ".join(f"{value:.2f}" for value in rows[key]) for key in ("same_class", "accuracy")]
        assert holds(COPIES[name], *cells), name


# --------------------------------------------------------------------------------------------------------------- links


def prose(page: str) -> str:
    """A page without its code, which may look like links and headings."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))


def anchors(page: str) -> set[str]:
    """What a heading of a page is reached by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKED = sorted(path.relative_to(head()).as_posix() for path in head().rglob("*.md"))


@pytest.mark.parametrize("name", LINKED)
def test_every_relative_link_leads_somewhere(name):
    text = prose((head() / name).read_text())
    targets = re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in [target for target in targets if not re.match(r"[a-z]+:", target)]:
        place, _, anchor = target.partition("#")
        path = ((head() / name).parent / place).resolve() if place else head() / name
        assert path.is_relative_to(head().resolve()), target
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{name}: {target}"


def test_the_readme_leads_to_every_page():
    targets = {re.sub(r"#.*", "", target) for target in re.findall(r"\]\(([^()\s]+)\)", prose(PAGES["README.md"]))}
    waiting, reached = [target for target in targets if target in PAGES], {"README.md"}
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [f"docs/{target}" for target in re.findall(r"\]\(([\w-]+\.md)", prose(PAGES[name]))]
    assert reached == set(PAGES)


# ------------------------------------------------------------------------------------------------------------ commands

COMMANDED = [
    *PAGES,
    "params.yaml",
    "Makefile",
    *(f"presets/{path.name}" for path in (head() / "presets").glob("*.yaml")),
]
CALL = r"(?:python[\d.]*|torchrun(?:\\\n|[^\n`])*?) -m ([a-z_][\w.]*)"


@pytest.mark.parametrize("name", sorted(COMMANDED))
def test_every_module_that_is_called_can_be_run(name):
    for module in re.findall(CALL, (head() / name).read_text()):
        assert runs(module.rstrip(".")), f"{name}: python -m {module}"


def runs(module: str) -> bool:
    """Whether `python -m` finds a module, or a package with a __main__."""
    try:
        spec = importlib.util.find_spec(module)
        return bool(spec) and (spec.submodule_search_locations is None or runs(f"{module}.__main__"))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_target_of_make_exists(name):
    makefile = (head() / "Makefile").read_text()
    for target in re.findall(r"(?:^|`|&& |\$ )make ([a-z.][\w./-]*)", PAGES[name], re.MULTILINE):
        assert re.search(rf"^(?:\S+ )*{re.escape(target)}(?: \S+)*:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_file_named_in_code_type_exists(name):
    folders = "stages|commands|baselines|presets|studies|benchmarks|tests"
    for path in re.findall(rf"`((?:{folders})/[\w/.-]*)`", PAGES[name]):
        assert (head() / path).exists(), f"{name}: {path}"


# --------------------------------------------------------------------------------------------------------------- words


def test_the_readme_has_at_most_a_thousand_words():
    assert len(PAGES["README.md"].split()) <= 1000  # as `wc -w` counts


@pytest.mark.parametrize("name", sorted(PAGES))
def test_pages_are_in_plain_english(name):
    assert not re.findall(r"\bis no\b|\bmend|\bbe had\b", " ".join(PAGES[name].split()), re.IGNORECASE)
