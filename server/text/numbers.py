"""Numbers to English words. Plain functions of digits; nothing here knows of tokens or context."""

from __future__ import annotations

import re

# As people write them: groups of three, a part after the point.
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = [
    "",
    "thousand",
    "million",
    "billion",
    "trillion",
    "quadrillion",
    "quintillion",
    "sextillion",
    "septillion",
    "octillion",
    "nonillion",
    "decillion",
]
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(number: int) -> str:
    """`-21` is `minus twenty-one`; beyond decillions, digit by digit."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number < 20:
        return _SMALL[number]
    if number >= 1000 ** len(_SCALES):
        return digits(str(number))
    words: list[str] = []
    for power in range(len(_SCALES) - 1, -1, -1):
        part = number // 1000**power % 1000
        if part:
            words += [_below_thousand(part)] + ([_SCALES[power]] if power else [])
    return " ".join(words)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [f"{_SMALL[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10] + (f"-{_SMALL[rest % 10]}" if rest % 10 else ""))
    elif rest:
        words.append(_SMALL[rest])
    return " ".join(words)


def ordinal(number: int) -> str:
    """`21` is `twenty-first`."""
    head, mark, last = re.fullmatch(r"(?:(.*)([ -]))?(\w+)", cardinal(number)).groups("")  # type: ignore[union-attr]
    last = _ORDINALS[last] if last in _ORDINALS else f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{head}{mark}{last}"


def digits(text: str) -> str:
    """Each digit by itself; other characters are left out."""
    return " ".join(_SMALL[int(c)] for c in text if c.isdigit())


def year(number: int) -> str:
    """1100 .. 2099 as people say years; others as a cardinal."""
    century, rest = divmod(number, 100)
    if not 1100 <= number <= 2099 or 2000 <= number <= 2009:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def paired(number: int) -> str:
    """As the numbers of rooms and flights are said: 204 is `two oh four`, 1250 `twelve fifty`, 300 `three hundred`."""
    hundreds, rest = divmod(number, 100)
    if not hundreds or number % 1000 == 0:
        return cardinal(number)
    return f"{cardinal(hundreds)} {'hundred' if not rest else f'oh {cardinal(rest)}' if rest < 10 else cardinal(rest)}"


def decade(number: int) -> str:
    """`1990` is `nineteen nineties`, `80` is `eighties`."""
    spoken = year(number) if number >= 100 else cardinal(number)
    return f"{spoken[:-1]}ies" if spoken.endswith("y") else f"{spoken}s"


def amount(text: str) -> str:
    """Digits with optional sign, thousands commas and decimals: `-1,234.50`. A leading zero means digits."""
    if text[:1] in "-+" and text[:1]:
        return f"{'minus' if text[0] == '-' else 'plus'} {amount(text[1:])}"
    whole, point, part = text.replace(",", "").partition(".")
    if (len(whole) > 1 and whole[0] == "0") or (len(whole) > 15 and "," not in text):
        spoken = digits(whole)
    else:
        spoken = cardinal(int(whole)) if whole else ""
    return f"{spoken} point {digits(part)}".strip() if point and part else spoken


def fraction(above: int, below: int) -> str:
    """`3/4` is `three quarters`; large denominators are `over`."""
    if (below > 20 and below not in (100, 1000)) or below < 2 or above > 99:
        return f"{cardinal(above)} over {cardinal(below)}"
    name = {2: "half", 4: "quarter"}.get(below, ordinal(below).removeprefix("one "))
    if above == 1:
        return f"one {name}"
    return f"{cardinal(above)} {'halves' if below == 2 else name + 's'}"


def roman(text: str) -> int | None:
    """The value of a well-formed numeral in capitals."""
    if not text or not _ROMAN.fullmatch(text):
        return None
    values = [_ROMAN_DIGITS[c] for c in text]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))
