"""The page's template, style and script held to each other: nothing is without use, nothing that is asked for lacks."""

import re

from project import ROOT

TEMPLATE, STYLE, SCRIPT = (
    (ROOT / "stages/page" / name).read_text(encoding="utf-8") for name in ("template.html", "style.css", "script.js")
)
IDS = set(re.findall(r'\sid="([\w-]+)"', TEMPLATE))
CLASSES = {name for names in re.findall(r'\sclass="([^"]+)"', TEMPLATE) for name in names.split()}
WORDS = {word for text in re.findall(r'"([^"\n]*)"', SCRIPT) for word in text.split()}  # of the script's strings


def selectors(sign: str) -> set[str]:
    """The names after a sign, "." or "#", among the selectors of the style."""
    rules = re.findall(r"([^{}]*){", re.sub(r"/\*.*?\*/", "", STYLE, flags=re.DOTALL))
    return {name for rule in rules for name in re.findall(rf"[{sign}]([a-zA-Z][\w-]*)", rule)}


def test_every_class_and_id_of_the_style_is_used():
    assert {"group", "set-aside", "pixels"} <= selectors(".")
    assert not selectors(".") - CLASSES - WORDS
    assert not selectors("#") - IDS


def test_every_id_and_class_that_the_script_asks_for_exists():
    asked = set(re.findall(r'(?:\$|getElementById)\("([\w-]+)"\)', SCRIPT))
    assert {"data", "canvas"} <= asked
    assert not asked - IDS
    queried = {name for query in re.findall(r'querySelector(?:All)?\("([^"]+)"', SCRIPT) for name in query.split()}
    assert "[type=text]" in queried
    assert not {name[1:] for name in queried if name.startswith(".")} - CLASSES


def test_every_id_of_the_template_is_used():
    parts = set(re.findall(r'href="#([\w-]+)"', TEMPLATE))
    assert not IDS - parts - selectors("#") - WORDS


def test_nothing_but_our_own_files_is_safe():
    assert re.findall(r"(\w+) *\| *safe", TEMPLATE) == ["style", "script"]
    assert "autoescape" not in TEMPLATE
