"""Single characters: typographic ones to plain ones, and scripts that an English voice cannot read."""

from __future__ import annotations

import re
import unicodedata

_PLAIN = {
    "‘": "'", "’": "'", "‚": ",", "‛": "'", "′": "'", "`": "`", "´": "'", "ʼ": "'",
    "“": '"', "”": '"', "„": '"', "‟": '"', "″": '"', "«": '"', "»": '"', "‹": "'", "›": "'",
    "‐": "-", "‑": "-", "‒": "–", "―": "—", "−": "-", "⁓": "~",
    "…": "...", "。": ". ", "、": ", ", "，": ", ", "！": "! ", "？": "? ", "：": ": ", "；": "; ",
    "·": " ", "⋅": " ", "♭": " flat", "♯": " sharp", "¶": "paragraph ", "¿": "", "¡": "",
    "⁄": "/", "∕": "/", "∗": "*", "∙": " ", "∆": "Δ", "№": "number", "℃": "°C", "℉": "°F", "µ": "µ", "μ": "µ", "Ω": "Ω",
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
    "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h", "©": "", "®": "", "™": "", "†": "",
    "‡": "", "\u00ad": "", "￼": "", "\ufffd": "",
}  # fmt: skip
_SYMBOLS = {
    "&": "and", "@": "at", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "±": "plus or minus",
    "≈": "is about", "≠": "is not equal to", "≤": "is less than or equal to", "≥": "is greater than or equal to",
    "<": "is less than", ">": "is greater than", "→": "to", "⇒": "to", "←": "from", "↔": "to and from", "∞": "infinity",
    "√": "square root of", "∑": "sum of", "∫": "integral of", "∂": "partial", "∈": "in", "§": "section", "°": "degrees",
    "%": "percent", "‰": "per mille", "^": "to the", "/": "slash", "*": "times", "#": "number", "$": "dollars",
    "€": "euros", "£": "pounds", "¥": "yen", "₹": "rupees", "₽": "rubles", "₿": "bitcoin", "₩": "won", "~": "about",
    "\\": "backslash", "_": "underscore", "==": "equals", "/*": "", "*/": "", "//": "",
    "<->": "to and from", "+=": "plus equals", "===": "equals",
    "!==": "is not equal to", "∪": "union", "∩": "intersection", "∧": "and", "∨": "or", "¬": "not", "∀": "for all",
    "∃": "there is", "∝": "is proportional to", "≡": "is equivalent to", "⊂": "in", "⊆": "in", "∉": "not in",
    "§§": "sections", "∛": "cube root of", "∠": "angle", "∇": "del", "∴": "therefore", "∵": "because",
    "⊥": "is perpendicular to", "∥": "is parallel to", "≅": "is congruent to", "∼": "about",
    "⇔": "if and only if", "∏": "product of", "≃": "is about", "≪": "is much less than", "≫": "is much greater than",
    "⇐": "from", "⟶": "to", "⟵": "from", "⟹": "to", "↦": "to", "⊃": "contains", "⊇": "contains", "∋": "contains",
    "∅": "the empty set", "↑": "up", "↓": "down", "▲": "up", "▼": "down",
    "!=": "is not equal to", "<=": "is at most",
    ">=": "is at least", "->": "to", "=>": "to", "<-": "from", "&&": "and", "||": "or", "...": ".",
}  # fmt: skip
_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
_KNOWN = ("LATIN", "GREEK", "COMMON")
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
# Transcriptions of sounds, marks of sources, colours of terminals: not said.
_UNSAID = re.compile(r"【[^】]*】|\x1b\[[0-9;]*[A-Za-z]|\S*[\u0250-\u02af\u02c8\u02cc]\S*")
# UTF-8 that was read as if it were Windows-1252.
_SCRAMBLED = re.compile(r"[ÂÃâðÅ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]+")
_STARS = re.compile(r"(\(?)([★⭐🌟☆✰\ufe0f]+)([.,;:!?)]*)")
_STARRED = re.compile(r"(?<=(\d))[★⭐🌟]\ufe0f?")
_KEYCAP = re.compile(r"(?:([0-9])\ufe0f?\u20e3|🔟)")
_FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"


def symbol(text: str) -> str | None:
    """How a sign that stands by itself is said."""
    return _SYMBOLS.get(text)


def plain(word: str) -> str:
    """A word in plain characters: quotes, dashes, width forms, ligatures, accents, emoji. May come out with spaces.

    En and em dashes stay, for they part words; so do Greek letters, signs of `symbol`, and letters of other scripts.
    """
    if word.isascii():
        return _UNSAID.sub("", word) if "\x1b" in word else word
    if (stars := _STARS.fullmatch(word)) and (rated := _rating(stars[2])):
        return stars[1] + rated + stars[3]
    word = _STARRED.sub(lambda m: " star" if m[1] == "1" else " stars", word)
    if keys := _KEYCAP.fullmatch(word):
        # As an item of a list is marked.
        return f"{keys[1] or 10})"
    if word in ("−", "·", "⋅", "∙"):
        return "minus" if word == "−" else "·"
    word = _UNSAID.sub("", _SCRAMBLED.sub(_unscrambled, word))
    return "".join(_plain_one(c, word[i - 1] if i else "") for i, c in enumerate(unicodedata.normalize("NFC", word)))


def _rating(stars: str) -> str:
    """`★★★★☆` is `4/5 stars`; a single star is left to what comes before it; many are an ornament."""
    full, every = len(re.findall("[★⭐🌟]", stars)), len(stars.replace("\ufe0f", ""))
    if every > 5 or not full:
        return ""
    return "★" if every == 1 else f"{full} stars" if full == every else f"{full}/{every} stars"


def _unscrambled(match: re.Match[str]) -> str:
    code = b"".join(c.encode("latin-1") if c <= "ÿ" else c.encode("cp1252") for c in match[0])
    try:
        return code.decode()
    except UnicodeDecodeError:
        return match[0]


def _plain_one(character: str, before: str) -> str:
    if character.isascii() or character in "–—":
        return character
    if character in _RAISED:
        return ("" if before in _RAISED and before else "^") + _RAISED[character]
    if character in _PLAIN:
        return _PLAIN[character]
    if character in _SYMBOLS:
        return character
    if character in _FRACTIONS:
        parts = unicodedata.normalize("NFKC", character).replace("⁄", "/")
        return f" {parts}" if before.isdigit() else parts
    category = unicodedata.category(character)
    # Combining marks, emoji and what joins them, format and private characters; a lone surrogate is not ours to hide.
    if category in ("Mn", "Me", "Cf", "Cc", "Co", "Cn", "So", "Sk"):
        folded = unicodedata.normalize("NFKC", character)
        return folded if folded.isascii() and folded.strip() else ""
    if category[0] == "N" and (value := unicodedata.numeric(character)) == int(value):
        return str(int(value))
    spread = unicodedata.normalize("NFKD", character)
    base = "".join(c for c in spread if unicodedata.category(c) != "Mn")
    return "".join(_PLAIN.get(c, c) for c in base) if base else character


def script(character: str) -> str | None:
    """The script of a letter that is not spoken (`cyrillic`, `cjk`, ...); None for all others."""
    if character.isascii() or unicodedata.category(character)[0] != "L":
        return None
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[0], "UNKNOWN").split(" ")[0].split("-")[0]
    return None if name in (*_KNOWN, "MICRO", "OHM", "FEMININE", "MASCULINE", "MODIFIER") else name.lower()


def greek(character: str) -> str | None:
    """The name of a Greek letter."""
    lower = character.lower()
    return _GREEK[ord(lower) - 0x3B1] if "α" <= lower <= "ω" else {"µ": "mu", "ϕ": "phi"}.get(lower)
