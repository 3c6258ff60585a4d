"""The pictures of the page that the README and docs show, taken anew after a run: `make pictures`.

reports/page.png is the top of reports/index.html, reports/page-map.png its map. It needs Chromium, as the tests of the
page do.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PAGE = Path("reports/index.html")
WINDOW = {"width": 1120, "height": 980}  # pixels


def save(page: Page, path: Path) -> None:
    """What the window shows, in 256 colours, which a page has few more of: git keeps these."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    """Take both pictures; exit code 1 and one line where that cannot be."""
    browser = shutil.which("chromium")
    if browser is None or not PAGE.exists():
        what = f"{PAGE} does not exist: make repro" if browser else "no chromium; on Debian: apt-get install chromium"
        sys.exit(f"pictures: {what}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport=WINDOW, color_scheme="light")
        page.goto(PAGE.resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_timeout(500)  # until images that came into view are drawn
        save(page, PAGE.with_name("page.png"))
        page.locator("#map").evaluate("section => section.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_timeout(500)
        save(page, PAGE.with_name("page-map.png"))
        chromium.close()


if __name__ == "__main__":
    main()
