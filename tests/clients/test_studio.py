"""The page, read as text: what it refers to is there, and nothing comes from elsewhere. What plays, run by Node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

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


# A player outside a browser: what it tells the page after each message or block of output.
_PLAYER = """
const fs = require("fs");
let Player;
globalThis.sampleRate = 1000;
globalThis.AudioWorkletProcessor = class { constructor() { this.port = { postMessage: (said) => told.push(said) }; } };
globalThis.registerProcessor = (_, made) => { Player = made; };
(0, eval)(fs.readFileSync(process.argv[1], "utf8"));
let told = [];
const player = new Player(), out = [];
for (const step of JSON.parse(process.argv[2])) {
  if (step === "play") player.process([], [[new Float32Array(100)]]);
  else player.port.onmessage({ data: typeof step === "number" ? new Float32Array(step) : step });
  out.push(told); told = [];
}
console.log(JSON.stringify(out));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize(
    ("steps", "told"),
    [
        # The end is received long before it is heard.
        ([150, "end", "play", "play"], [[], [], ["playing"], ["finished"]]),
        ([150, "play", "play"], [[], ["playing"], ["underrun"]]),
        # The page learns that nothing is heard any more, and once only.
        ([500, "end", "play", "clear", "play", "clear"], [[], [], ["playing"], ["finished"], [], []]),
    ],
)
def test_the_player_tells_when_sound_comes_out(steps: list[int | str], told: list[list[str]]) -> None:
    command = ["node", "-e", _PLAYER, str(FOLDER / "worklet.js"), json.dumps(steps)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(answer.stdout) == told


def test_what_is_heard_can_be_stopped_after_it_has_been_received() -> None:
    """Speech comes faster than it is heard: Stop and Escape do not depend on a connection."""
    page = SCRIPTS["app.js"]
    assert "whenPlaying(" in page
    assert '$("stop").onclick = stop;' in page
    assert 'event.key === "Escape") stop();' in page
