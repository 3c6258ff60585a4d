"""The page in a real browser: it renders without a complaint, groups can be named and the names come back."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from test_evaluate import NAMES, make_results, run_evaluate
from test_report import make_report, run_report, write_histories

from stages.images.duplicates import Duplicate, write_duplicates
from stages.images.store import Concatenated
from stages.page import contents, exhibit
from stages.scoring.names import model_id, read_names

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; on Debian: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Made-up results on the digits, with two copies and one cluster without images."""
    folder = tmp_path_factory.mktemp("page")
    os.environ["LIVE"] = str(folder / "live")
    (folder / "live").mkdir()
    (folder / "live/seconds.json").write_text('{"pretext": 3725.0, "scan": 61.2, "other": 5}')
    make_results(folder, clusters=11, dead=1)
    write_histories(folder)
    copies = [Duplicate("train", 9, "train", 2, "exact"), Duplicate("test", 0, "train", 2, "near")]
    write_duplicates(folder / "data/images", copies)
    run_evaluate(folder)
    run_report(folder)
    os.environ["LIVE"] = ""
    return folder


def visit(browser: Browser, folder: Path, complaints: list[str], **how) -> Page:
    """The page, opened as a file in a window of its own; what the browser complains of comes into the list."""
    page = browser.new_context(**how).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http") and complaints.append(request.url))
    page.goto((folder / "reports/index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


# The selectors that match nothing, but for states that come and go with the pointer and the keyboard.
UNUSED = """() => {
    const selectors = (rules) => [...rules].flatMap((rule) => [
        ...(rule.selectorText?.split(",") ?? []), ...selectors(rule.cssRules ?? [])]);
    const all = [...document.styleSheets].flatMap((sheet) => selectors(sheet.cssRules));
    const plain = (selector) => selector.replace(/::?(hover|focus-visible|placeholder|backdrop)/g, "").trim() || "*";
    return all.filter((selector) => !document.querySelector(plain(selector)));
}"""


def colours(page: Page) -> int:
    """How many different colours the map shows."""
    return page.evaluate(
        """() => { const { width, height } = canvas, pen = canvas.getContext("2d");
        return new Set(new Uint32Array(pen.getImageData(0, 0, width, height).data.buffer)).size; }"""
    )


@pytest.mark.parametrize(
    "how",
    [
        {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
        {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
        {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_it_renders(browser, results, how):
    complaints = []
    page = visit(browser, results, complaints, **how)
    width = how["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the window"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(23, 27, 34)" if how["color_scheme"] == "dark" else "rgb(255, 255, 255)")
    assert page.locator("h1").inner_text() == "digits: 420 images in 10 groups"
    tile = page.locator(".group .tile").first
    tile.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.group .tile').style.backgroundImage.startsWith('url(\"blob:')")
    for part in ("groups", "map", "scores", "duplicates", "training"):
        assert page.locator(f"nav a[href='#{part}']").count() == page.locator(f"#{part}").count() == 1
    page.locator("#canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    assert colours(page) > 20
    assert page.locator(".pairs div").count() == 2
    training = page.locator("#training").inner_text()
    assert "1 h 02 min" in training
    assert "1 min 01 s" in training
    assert "other" not in training
    # Space tells of the dot in the middle, and the pointer of the dot below it.
    page.locator("#canvas").focus()
    page.keyboard.press("Space")
    assert page.locator("#tip").is_visible()
    assert "%" in page.locator("#tip span").inner_text()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert not page.locator("#tip").is_visible()
    page.keyboard.press("0")
    assert complaints == []


def test_every_rule_of_the_style_is_for_something(browser, results):
    page = visit(browser, results, [])
    page.locator(".group .tile").first.click()
    page.keyboard.press("Escape")
    page.get_by_label("Cluster 5 is junk").check()
    page.locator(".chips button").first.click()
    page.locator("#canvas").focus()
    page.keyboard.press("Space")
    assert page.evaluate(UNUSED) == []


def test_the_pointer_finds_images_on_the_map(browser, results):
    complaints = []
    page = visit(browser, results, complaints)
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    side = 0.94 * min(box["width"], box["height"])
    x, y = page.evaluate("[data.map.x[7], data.map.y[7]]")
    place = box["x"] + box["width"] / 2 + (x - 0.5) * side, box["y"] + box["height"] / 2 + (y - 0.5) * side
    page.mouse.move(*place)
    assert page.locator("#tip").is_visible()
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    page.mouse.move(place[0] + 1, place[1])
    assert page.locator("#tip").is_visible(), "what is under the pointer stays there"
    page.mouse.click(place[0] + 1, place[1])
    assert page.locator("#enlarged").is_visible()
    shown = page.locator("#facts").inner_text()
    assert page.evaluate("data.images.place[data.map.image[7]]") in shown
    page.keyboard.press("Escape")
    assert not page.locator("#enlarged").is_visible()
    assert complaints == []


def test_naming_merging_and_junk_come_back_as_names(browser, results, tmp_path):
    complaints = []
    page = visit(browser, results, complaints)
    page.get_by_label("Name of cluster 0").click()
    page.keyboard.type('round "o": # <b>')
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Name of cluster 1"
    page.keyboard.type("straight")
    page.get_by_label("Merge cluster 3").focus()
    page.get_by_label("Merge cluster 3").select_option("1")
    page.get_by_label("Cluster 5 is junk").check()
    page.get_by_label("Merge cluster 1").focus()
    offered = page.get_by_label("Merge cluster 1").locator("option").all_inner_texts()
    assert not any("(3)" in text for text in offered), "no circles"
    assert page.get_by_label("Name of cluster 3").get_attribute("placeholder") == "same as straight"
    assert "4 of 11 groups named" in page.locator("#progress").inner_text()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.get_by_label("Name of cluster 1").input_value() == "straight", "kept in the browser"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download names.yaml").click()
    assert download.value.suggested_filename == "names.yaml"
    download.value.save_as(tmp_path / "names.yaml")
    found = read_names(tmp_path / "names.yaml", 11, model_id(results / "data/selflabel/model.pt"))
    assert found.name[:6] == ['round "o": # <b>', "straight", "", "straight", "", "junk"]
    assert not found.stale

    # With them in its place, evaluate and report show them.
    shutil.copytree(results / "data", tmp_path / "data")
    shutil.copytree(results / "reports", tmp_path / "reports")
    run_evaluate(tmp_path)
    run_report(tmp_path)
    page = visit(browser, tmp_path, complaints)
    assert page.get_by_label("Name of cluster 0").input_value() == 'round "o": # <b>'
    assert page.get_by_label("Merge cluster 3").input_value() == "1"
    assert page.get_by_label("Cluster 5 is junk").is_checked()
    assert page.locator(".chips button").filter(has_text="straight").count() == 2
    page.get_by_label("Name of cluster 0").fill("another")
    page.get_by_role("button", name="Start over").click()
    assert page.get_by_label("Name of cluster 0").input_value() == 'round "o": # <b>'
    assert complaints == []


def test_odd_class_names_are_shown_as_they_are(browser, tmp_path):
    make_report(tmp_path, train=60, test=40)
    complaints = []
    page = visit(browser, tmp_path, complaints)
    placeholders = [page.get_by_label(f"Name of cluster {i}").get_attribute("placeholder") for i in range(10)]
    assert placeholders == NAMES
    page.locator(".group .tile").first.click()
    assert page.locator("#enlarged").is_visible()
    assert complaints == []


def test_enter_goes_to_the_next_group_on_the_page(browser, tmp_path):
    make_report(tmp_path, train=60, test=40, labelled=())
    page = visit(browser, tmp_path, [])
    fields = page.locator(".group input[type=text]")
    shown = [field.get_attribute("aria-label") for field in fields.all()]
    assert shown != sorted(shown), "by size, not by number"
    fields.first.focus()
    for name in shown[1:]:
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name


class Repeated:
    """A few images as an array of many, (count, H, W, C)."""

    def __init__(self, images, count):
        self.images, self.shape, self.dtype = images, (count, *images.shape[1:]), images.dtype
        self.nbytes = count * images[0].nbytes

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return self.images[np.arange(len(self))[rows] % len(self.images)]


def test_a_hundred_thousand_images(browser, tmp_path, monkeypatch):
    """Photographs of noise, which are as hard to compress as images can be. Where dots lie makes no difference."""
    monkeypatch.setattr(exhibit, "plane", lambda vectors: np.random.default_rng(0).random((len(vectors), 2)))
    make_results(tmp_path, clusters=40, train=60, test=40, colour=True, labelled=())
    write_histories(tmp_path)
    run_evaluate(tmp_path)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (500, 64, 64, 3), dtype=np.uint8)
    counts = {"train": 90_000, "test": 10_000}
    # As if they were 1.2 GB on disk.
    pixels = {split: Repeated(noise, count) for split, count in counts.items()}
    read_splits = contents.read_splits

    def read(folder, name):
        return Concatenated(list(pixels.values())) if folder.name == "images" else read_splits(folder, name)

    monkeypatch.setattr(contents, "read_splits", read)
    for split, count in counts.items():
        logits = random.standard_normal((count, 40)) * 2
        soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.save(tmp_path / f"data/selflabel/probabilities-{split}.npy", soft.astype(np.float16))
        vectors = random.standard_normal((count, 4)).astype(np.float32)
        np.save(tmp_path / f"data/embeddings/{split}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    run_report(tmp_path, prototypes=12)
    assert (tmp_path / "reports/index.html").stat().st_size <= 15e6
    complaints, seconds = [], []
    for _ in range(3):  # the least of three: other tests are at work beside this one
        start = time.monotonic()
        page = visit(browser, tmp_path, complaints, viewport={"width": 1280, "height": 900})
        page.wait_for_function("document.querySelector('.group .tile').style.backgroundImage !== ''")
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 20, "a quarter of a second on a quiet machine"
    assert page.locator("h1").inner_text() == "digits: 100,000 images in 40 groups"
    assert complaints == []
