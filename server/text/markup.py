"""Markdown, HTML and LaTeX marks, word by word: what a word leaves to be said once its marks are off."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from sled_tts.server.text.lexicon import BREAKING_TAGS, HTML_TAGS, SPEECH_TAGS

_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*)(?:\s[^<>]*)?/?>")
_OPEN_TAG = re.compile(r"<(?:!--|(?:(?<!\w<)|(?=[a-z]{2}))/?([A-Za-z][A-Za-z0-9-]*)$)")
_PLACE = re.compile(r"(?<![\w<])<\|?/?([A-Za-z][\w.-]*)\|?>|(?<=[A-Za-z]{2})<([A-Z]\w+)>")
_LINK_END = re.compile(r"\]\((?:[^()]|\([^()]*\))*\)")
_FOOTNOTE = re.compile(r"\[\^?\d+\]")
_LATEX = (
    (r"\\limits", ""), (r"\^\{?\\circ\}?", " degrees "), (r"\\math\w+|\\operatorname|\\[clv]?dots|\\\\", " "),
    (r"\\lim_\{?", " limit as "), (r"\\lim\b", " limit "), (r"\\(sin|cos)\b", r" \1e "), (r"\\tan\b", " tangent "),
    (r"\\%", " percent "),
    (r"\\(sum|int|prod)_\{?([^{}^]+)\}?\^(?:\{([^{}]+)\}|(\\\w+|.))", r" \\\1 from \2 to \3\4 of "),
    (r"\\prod\b", " product "), (r"\\sum from", " sum from"), (r"\\int from", " integral from"),
    (r"\\(?:boxed|vec|hat|bar|overline|underline|boldsymbol)", ""), (r"(?<![\w})])-(?=[\w\\])", " minus "),
    (r"\\[dt]?frac\{", ""), (r"\}\{", " over "), (r"\\sqrt\{?", " square root of "), (r"\\(?:times|cdot)", " times "),
    (r"\\div", " divided by "), (r"\\pm", " plus or minus "), (r"\\(?:leq?)\b", " is at most "),
    (r"\\(?:geq?)\b", " is at least "), (r"\\neq?\b", " is not equal to "), (r"\\approx", " is about "),
    (r"\\(?:infty)", " infinity "), (r"\\sum", " sum of "), (r"\\int", " integral of "),
    (r"\\(?:right|to)arrow|\\to\b", " to "),
    (r"\\(?:left|right|text|mathrm|mathbf|quad|displaystyle|,|;|!)", ""), (r"\\([A-Za-z]+)", r" \1 "),
    (r"^\s*-(?=\w|$)", " minus "), (r"^\+$", " plus "),
    (r"\^\{?2\}?(?!\d)", " squared "), (r"\^\{?3\}?(?!\d)", " cubed "), (r"\^\{?", " to the "), (r"_\{?", " sub "),
    (r"(?<=[\w})])\s*=\s*", " equals "), (r"(?<=[\w})])\+", " plus "), (r"(?<=[\w})])-", " minus "),
    (r"(?<=[\w})])/", " over "), (r"(?<=[\w})])<", " is less than "), (r"(?<=[\w})])>", " is greater than "),
    (r"[{}()\\$]", " "), (r"(?<=\d)(?=[a-z])", " "),
)  # fmt: skip
# A figure after a dollar is money, unless another dollar closes it or a variable follows (`$2x + 5 = 15$`).
_FORMULA = re.compile(
    r"\(?(\${1,2}[A-Za-z\\({-]|\$\$|\\[(\[]|\$\d[^$\s/]*\$[.,;:!?)]*$"
    r"|\$\d+(?:\.\d+)?(?:[\\^_{]|(?![kKmMbBtT][nNmM]?(?![a-zA-Z])|s\b|p[apw]\b)[a-zA-Z]{1,2}(?![a-zA-Z])))"
)
_PATTERNS = tuple((re.compile(pattern), by) for pattern, by in _LATEX)


@dataclass
class Part:
    """Some of a word; `code` when it is to be read as code."""

    text: str
    code: bool = False


@dataclass
class Markup:
    """Carries what spans words: inline code, formulas, tags and link addresses. `end_line` closes whatever is open."""

    _code: bool = field(default=False, init=False)
    _maths: str = field(default="", init=False)
    _skip: str = field(default="", init=False)
    _unsure: str = field(default="", init=False)

    @property
    def idle(self) -> bool:
        """Whether nothing is open that began in an earlier word."""
        return not (self._code or self._maths or self._skip)

    @property
    def awaited(self) -> str:
        """What ends the tag or the address that is open, which is not said; empty without one."""
        return self._skip

    def end_line(self) -> None:
        self._code, self._maths, self._skip, self._unsure = False, "", "", ""

    def clean(self, word: str) -> list[Part]:
        """What is left to say of one word."""
        if self._skip and self._unsure and not self._belongs(word):
            opened, self._skip, self._unsure = self._unsure, "", ""
            return [*(Part(text) for text in opened.split()), *self.clean(word)]
        self._unsure = ""
        if self._skip:
            _, found, word = word.partition(self._skip)
            if not found:
                return []
            self._skip = ""
        if not word:
            return []
        if re.fullmatch(r"\${3,}[.,;:!?)]*", word):
            # How dear a place is, in signs.
            return []
        if not self._code and (self._maths or _FORMULA.match(word)):
            if not re.match(r"\$[A-Z]{2,}\b", word) or self._maths:
                return self._formula(word)
            word = word[1:]
        parts: list[Part] = []
        for at, text in enumerate(re.split(r"`+", word)):
            if at:
                self._code = not self._code
            if text:
                parts += [Part(text, True)] if self._code else [Part(t) for t in self._prose(text).split()]
        return self._glue(parts)

    def _belongs(self, word: str) -> bool:
        """Whether the first word after what seemed to open a tag or an address can be part of it."""
        return bool(re.search(r"[=>/]" if self._skip == ">" else r"^[\"'(]|^[^(]*\)", word))

    def _glue(self, parts: list[Part]) -> list[Part]:
        """Punctuation after code belongs to the code."""
        out: list[Part] = []
        for part in parts:
            if out and out[-1].code and re.fullmatch(r"[.,;:!?)\"']+", part.text):
                out[-1].text += part.text
            else:
                out.append(part)
        return out

    def _prose(self, word: str) -> str:
        word = re.sub(r"^<((?:https?://|mailto:)[^<>]+|[^<>\s]+@[^<>\s]+)>", r"\1", word)
        word = _TAG.sub(self._tag, word)
        opened = _OPEN_TAG.search(word)
        if opened and (opened[1] is None or opened[1].lower() in HTML_TAGS | SPEECH_TAGS):
            self._skip = "-->" if opened[1] is None else ">"
            self._unsure = "" if opened[1] is None else f"< {opened[1]}"
            word, rest = word[: opened.start()], word[opened.end() :]
            if self._skip in rest:
                self._skip, word = "", word + rest.split("-->", 1)[1]
        if "&" in word and ";" in word:
            word = html.unescape(word).replace("\xa0", " ")
        # What stands for something to be filled in, or a parameter: `<name>`, `List<String>`.
        word = _PLACE.sub(lambda m: f" {m[1] or m[2]} ", word)
        word = re.sub(r"!?\[(?=\S)", lambda m: self._bracket(m), word)
        word = _FOOTNOTE.sub("", word)
        word = _LINK_END.sub("", word)
        if "](" in word:
            word, self._skip = word.split("](", 1)[0], ")"
            self._unsure = " "
        word = re.sub(r"\]\[[^\]]*\]", "", word)
        word = re.sub(r"\\([*_#`$~>\[\]-])", "\\1", word)
        if not re.fullmatch(r"\W+", word):
            word = re.sub(r"\*\*+|__+|~~|(?<!\w)==(?=\w)|(?<=\w)==(?=\W|$)", "", word)
        # The star of a telephone, where no second one closes it.
        if re.fullmatch(r"\*\d+#?[.,;:!?]*", word):
            return word
        word = re.sub(r"^([\"'(\[]*)[*_]+(?=[\w\"'(])", r"\1", word)
        return re.sub(r"(?<=[\w.,!?:;)\"'%])[*_]+(?=\W*$)", "", word)

    def _bracket(self, match: re.Match[str]) -> str:
        if _FOOTNOTE.match(match.string, match.end() - 1):
            return match[0]
        return " " if match.string[match.start() - 1 : match.start()].isalnum() else ""

    def _tag(self, match: re.Match[str]) -> str:
        name = match[1].lower()
        if name not in HTML_TAGS and not (name in SPEECH_TAGS and match[0].startswith("</")):
            return match[0]
        return " " if name in BREAKING_TAGS else ""

    def _formula(self, word: str) -> list[Part]:
        if not self._maths:
            opening = re.match(r"\(?(\${1,2}|\\[(\[])", word)
            assert opening is not None
            self._maths = {"\\(": "\\)", "\\[": "\\]"}.get(opening[1], opening[1])
            word = word[opening.end() :]
        inside, closed, after = word.partition(self._maths)
        if closed:
            self._maths = ""
        for pattern, by in _PATTERNS:
            inside = pattern.sub(by, inside)
        parts = [Part(text) for text in inside.split()]
        if after.strip():
            if re.fullmatch(r"[.,;:!?)]+", after) and parts:
                parts[-1].text += after
            else:
                parts += self.clean(after)
        return parts
