"""The page, read as text: what it refers to is there, and nothing comes from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "studio"
SCRIPTS = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.js")}
PAGE = (FOLDER / "index.html").read_text("utf-8")


class _Elements(HTMLParser):
    """Every element with its attributes; `labelled` are those inside a label."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.labelled: list[int] = []
        self._label = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._label = self._label or tag == "label"
        if self._label:
            self.labelled.append(len(self.elements))
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._label = self._label and tag != "label"


def _parsed() -> _Elements:
    parsed = _Elements()
    parsed.feed(PAGE)
    return parsed


def test_nothing_comes_from_another_host() -> None:
    for name, text in {**SCRIPTS, "index.html": PAGE, "style.css": (FOLDER / "style.css").read_text("utf-8")}.items():
        assert not re.findall(r"(?:https?:)?//[\w-]+\.\w+", text), name
    for text in SCRIPTS.values():
        for other in re.findall(r'from "\./([\w.]+)"', text):
            assert other in SCRIPTS
    for path in re.findall(r'"/studio/([\w.]+)"', PAGE + "".join(SCRIPTS.values())):
        assert (FOLDER / path).is_file()


def test_every_element_that_a_script_names_is_on_the_page_once() -> None:
    ids = [attributes["id"] for _, attributes in _parsed().elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {name for text in SCRIPTS.values() for name in re.findall(r'\$\("([\w-]+)"\)', text)}
    assert {"text", "voice", "speed", "format", "clone", "cloned"} <= named
    assert named <= set(ids)


def test_every_field_has_a_name_that_can_be_read_aloud() -> None:
    parsed = _parsed()
    pointed_at = {attributes.get("for") for tag, attributes in parsed.elements if tag == "label"}
    for place, (tag, attributes) in enumerate(parsed.elements):
        if tag in ("input", "select", "textarea", "canvas"):
            named = place in parsed.labelled or attributes.get("id") in pointed_at or "aria-label" in attributes
            assert named, attributes
    assert re.search(r'<html lang="\w+"', PAGE)
    assert PAGE.count('aria-live="polite"') == 2, "what happens is told, for speech and for voices"
