"""Addresses, phone numbers, versions, file names and paths."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.labels import Label
from sled_tts.server.text.numbers import amount, cardinal, digits
from sled_tts.server.text.quantities import spell

_MAIL = re.compile(r"(?:mailto:)?([\w.+-]+)@([\w-]+(?:\.[\w-]+)+)", re.ASCII)
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://)(?:www\.)?([^/?#\s:]+)(?::(\d+))?([^?#\s]*)\S*", re.IGNORECASE)
_BARE = re.compile(r"(?:www\.)?((?:[a-zA-Z0-9-]+\.)+([a-zA-Z]{2,6}))(?::(\d+))?(/[^?#\s]*)?(?:[?#]\S*)?")
_IP = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::(\d+))?(?:/(\d+))?")
_VERSION = re.compile(r"([vV])?(\d+(?:\.\d+)+|\d+)(?:[-.]?(alpha|beta|rc|dev)\.?(\d*))?")
_PHONES = (
    re.compile(r"\+?\d{0,3}-?\(?\d{3}\)?[-.]\d{3}[-.]\d{4}"),
    re.compile(r"\d{3}-\d{4}"),
    re.compile(r"\+\d[\d-]{8,14}"),
)
_KEYED = ("press", "hit", "dial", "dialing")
_FILE = re.compile(r"([\w.-]*?)\.(\w{1,5})", re.ASCII)


def read_address(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is none of these, `"wait"` when what follows decides."""
    phone = _phone(core, trail, before, ahead)
    if phone is not None:
        return phone
    spoken = _mail(core) or _address(core) or _version(core, before) or _file(core)
    return Reading(spoken, trail) if spoken else None


def _phone(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    core = core.removeprefix("tel:")
    if match := re.fullmatch(r"(?:1-)?(\d{3})-([A-Z]{4,}|[A-Z]{2,}-[A-Z]{2,})", core):
        lead = "one, " if core[1] == "-" else ""
        return Reading(f"{lead}{digits(match[1])}, {match[2].replace('-', ' ').title()}", trail)
    # Groups parted by spaces are known for a number only after a word for one.
    called = before.label is Label.PHONE
    keyed = re.fullmatch(r"([*#])(\d+)([*#]?)", core)
    if keyed and (before.lower in _KEYED or (called and before.lower in ("call", "or", "then"))):
        keys = {"*": "star", "#": "pound", "": ""}
        return Reading(f"{keys[keyed[1]]} {digits(keyed[2])} {keys[keyed[3]]}".strip(), trail, Kind.PHONE)
    grouped = re.fullmatch(r"0\d{1,4}|[2-9]\d\d|1", core) if called else re.fullmatch(r"0\d{2,4}", core)
    if grouped and not trail and before.kind not in (Kind.PHONE, Kind.CODE) and before.label is not Label.CODE:
        if not ahead.word and not ahead.done:
            return "wait"
        if ahead.word[:1].isdigit():
            return Reading(digits(core), ",", Kind.PHONE)
    if called and re.fullmatch(r"\d{5,7}|1?\d{10}", core) and core[-3:] != "000":
        lead = core[:-7] and f"{digits(core[:-10])}, {digits(core[-10:-7])}, ".removeprefix(", ")
        said = f"{lead}{digits(core[-7:-4])}, {digits(core[-4:])}" if len(core) > 6 else digits(core)
        return Reading(said, trail, Kind.PHONE)
    if any(pattern.fullmatch(core) for pattern in _PHONES):
        groups = [group for group in re.split(r"\D+", core) if group]
        lead = "plus " if core[0] == "+" else ""
        return Reading(lead + ", ".join(digits(group) for group in groups), trail, Kind.PHONE)
    if re.fullmatch(r"\+\d{1,3}", core) and not trail:
        if not ahead.word and not ahead.done:
            return "wait"
        if ahead.word[:1] == "(" or ahead.word[:1].isdigit():
            return Reading(f"plus {digits(core)}", ",", Kind.PHONE)
    if re.fullmatch(r"\(?\d{3}\)", core):
        if not ahead.word and not ahead.done:
            return "wait"
        if ahead.word[:1].isdigit() or before.kind is Kind.PHONE:
            return Reading(digits(core), ",", Kind.PHONE)
    if core in ("x", "X") and before.kind is Kind.PHONE:
        return "wait" if ahead.first is None else Reading("extension", "") if ahead.first.isdigit() else None
    if before.kind is Kind.PHONE and re.fullmatch(r"x\d{1,6}", core):
        return Reading(f"extension {digits(core)}", trail)
    if before.kind is Kind.PHONE and not before.starts and re.fullmatch(r"[\d)-]+", core):
        if not trail and not ahead.word and not ahead.done:
            return "wait"
        parts = [digits(part) for part in core.split("-") if part]
        return Reading(", ".join(parts), "," if not trail and ahead.word[:1].isdigit() else trail, Kind.PHONE)
    return None


def _mail(core: str) -> str | None:
    match = _MAIL.fullmatch(core)
    return f"{_named(match[1])} at {_host(match[2])}" if match else None


def _address(core: str) -> str | None:
    if (match := _IP.fullmatch(core)) and all(int(part) < 256 for part in match.groups()[:4]):
        port = f" port {cardinal(int(match[5]))}" if match[5] else ""
        port += f" slash {cardinal(int(match[6]))}" if match[6] else ""
        return " dot ".join(digits(part) for part in match.groups()[:4]) + port
    if match := re.fullmatch(r"localhost:(\d+)(/\S*)?", core):
        return f"localhost port {cardinal(int(match[1]))}{_path((match[2] or '').partition('?')[0])}"
    if match := re.fullmatch(r"([ru])/(\w+)", core):
        return f"{match[1]} slash {_named(match[2])}"
    if match := _URL.fullmatch(core):
        return _host(match[1]) + (f" port {cardinal(int(match[2]))}" if match[2] else "") + _path(match[3])
    match = _BARE.fullmatch(core)
    if match and match[2].lower() in lexicon.TLDS and (match[2].islower() or core.startswith("www.")):
        port = f" port {cardinal(int(match[3]))}" if match[3] else ""
        return _host(match[1]) + port + _path(match[4] or "")
    return None


def _host(host: str) -> str:
    if all(part.isdigit() for part in host.split(".")):
        return " dot ".join(digits(part) for part in host.split("."))
    *names, top = host.split(".")
    last = spell(top) if top.lower() in lexicon.SPELLED_TLDS and names else _named(top)
    return " dot ".join([*(_named(name) for name in names), last])


def _path(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return "".join(f" slash {_file(part) or _named(part)}" for part in parts)


def _named(name: str) -> str:
    """A name in an address: words and numbers, signs by name."""
    signs = {
        ".": " dot ",
        "-": " dash ",
        "_": " underscore ",
        "+": " plus ",
        "~": " tilde ",
        "@": " at ",
        "%": " percent ",
    }
    spoken = "".join(signs.get(c, c if c.isalnum() else " ") for c in name)
    spoken = re.sub(r"\d+", lambda m: f" {amount(m[0]) if len(m[0]) < 5 else digits(m[0])} ", spoken)
    return " ".join(spoken.split())


def _version(core: str, before: Before) -> str | None:
    match = _VERSION.fullmatch(core)
    if not match:
        return None
    mark, numbers, stage, nth = match.groups()
    dated = re.fullmatch(r"\d{1,2}\.\d{1,2}\.\d{4}", core)
    if dated or (not mark and not stage and numbers.count(".") < 2):
        return None
    lead = "version " if mark and before.lower != "version" else ""
    spoken = " point ".join(amount(part) for part in numbers.split("."))
    named = {"rc": "R C", "dev": "dev"}.get(stage, stage)
    return f"{lead}{spoken}" + (f" {named}" if stage else "") + (f" {cardinal(int(nth))}" if nth else "")


def _file(core: str) -> str | None:
    match = _FILE.fullmatch(core)
    if match and match[2].lower() in lexicon.EXTENSIONS and not match[1].isdigit():
        last = spell(match[2]) if match[2].lower() in lexicon.SPELLED_EXTENSIONS else _named(match[2])
        return f"{_named(match[1])} dot {last}".strip()
    if re.fullmatch(r"[~.]{0,2}(?:/[\w.-]+)+/?", core, re.ASCII) and (core.count("/") > 1 or core[0] in "/~."):
        head, *parts = core.split("/")
        lead = {"~": "home", ".": "dot", "..": "dot dot"}.get(head, "")
        return f"{lead}{_path('/'.join(parts))}".strip()
    return None
