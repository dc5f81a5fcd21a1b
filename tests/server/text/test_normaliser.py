"""The table of what is said how, whole and cut; and what must hold for any text."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.errors import TokenizerError
from sled_tts.server.text.normaliser import Normaliser
from sled_tts.server.text.spoken import Skipped, Spoken

Output = list[Spoken | Skipped]


def table() -> list[tuple[str, str]]:
    rows = []
    for line in Path(__file__).with_name("cases.tsv").read_text(encoding="utf-8").splitlines():
        if "\t" in line:
            written, spoken = line.split("\t")
            rows.append((written.replace("\\r", "\r").replace("\\n", "\n"), spoken))
    return rows


CASES = table()
# What is written in cases.tsv is what people write; these are the pieces that decide how they are read.
PARTS = st.characters(exclude_categories=("Cs",)) | st.sampled_from(
    [
        *"$5-/.:,%#*_`|\n()[]<>&;~+=^\\{}'\"—…½é世жπ🙂\u200b",
        *("\n\n", "million", "am", "pm", "May", "Dr.", "St.", "etc.", "No.", "IV", "GB", "km", "1st", "2024", "10:30"),
        *("```", "---", "](", "http://", "a@b.com", "the", "Word", "e.g.", "1/2", "<b>", "<!--", "&amp;", "\\frac{"),
        *(
            "\r",
            "\r\n",
            "**",
            "5'",
            '12"',
            "8/10",
            "$2x",
            "2h",
            "30m",
            "1.25",
            "CHF",
            "U.S.",
            "code",
            "sq.",
            "in.",
            "x",
            "°",
        ),
        *(
            "order",
            "number",
            "PIN",
            "call",
            "020",
            "555",
            "#",
            "4821",
            "IL",
            "62704",
            "NW",
            "corner",
            "St",
            "Dr",
            "Apt",
        ),
        *("USD", "CAD", "US", "$5", " - ", "9a", "1800", "hours", "6th", "11/20", "72F", '4"', "of", "10^", "0x", "★"),
        *("(", ")", "(a", "b)", "1\ufe0f\u20e3", "ChatGPT", "ESPN", "Q1", "*67", "•", "k+", "%", "6-4,"),
    ]
)
TEXTS = st.lists(PARTS | st.just(" "), max_size=30).map("".join)


def read(pieces: list[str], normaliser: Normaliser | None = None) -> Output:
    normaliser = normaliser or Normaliser()
    return [*(out for piece in pieces for out in normaliser.feed(piece)), *normaliser.flush()]


def said(output: Output) -> str:
    return "".join(piece.text for piece in output if isinstance(piece, Spoken))


def test_the_table_is_large_and_has_no_case_twice() -> None:
    assert len(CASES) >= 300
    assert len({written for written, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_what_is_said(written: str, spoken: str) -> None:
    assert said(read([written])).strip() == spoken


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_any_cut_gives_the_same(written: str, spoken: str) -> None:
    whole = read([written])
    assert read(list(written)) == whole
    for cut in range(1, len(written)):
        assert read([written[:cut], written[cut:]]) == whole


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 60), max_size=8))
def test_any_text_is_cut_invariant_plain_and_in_order(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    whole = read([text])
    assert read([text[a:b] for a, b in pairwise(places)]) == whole
    spoken = [piece for piece in whole if isinstance(piece, Spoken)]
    assert all(0 <= piece.begin <= piece.end <= len(text) for piece in spoken)
    assert [piece.begin for piece in spoken] == sorted(piece.begin for piece in spoken)
    # What the built-in voice was trained on; nothing else may reach it.
    alphabet = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!';:-")
    assert set(said(whole)) <= alphabet


@given(st.lists(st.sampled_from(["fox", "Quick", "don't", "over", "lazy"]), min_size=1, max_size=9))
def test_a_plain_word_is_released_with_its_space(words: list[str]) -> None:
    normaliser = Normaliser()
    for word in words:
        assert said(list(normaliser.feed(f"{word} "))) == f"{word} "


def test_a_number_waits_no_longer_than_it_must() -> None:
    normaliser = Normaliser()
    assert said(list(normaliser.feed("$5 "))) == ""
    assert said(list(normaliser.feed("m"))) == "", "it may become a million"
    assert said(list(normaliser.feed("o"))) == "five dollars ", "but not any more"
    assert said(list(normaliser.feed("re. 7 "))) == "more. "
    assert said(list(normaliser.feed("f"))) == "seven ", "months begin with a capital"


@pytest.mark.parametrize(
    ("begun", "undecided", "decided", "spoken"),
    [
        ("a code 4821 ", "", "t", "a code four eight two one "),
        ("Call 020 ", "", "7", "Call zero two zero, "),
        ("in Boston MA ", "0213", " ", "in Boston M A "),
        ("costs $5 ", "C", "o", "costs five dollars "),
        ("see 10 - ", "1", "5 ", "see ten to "),
        ("for 1800 ", "hou", "s", "for one thousand eight hundred "),
        ("on 6th ", "Ma", "n", "on sixth "),
        ('a 4" ', "o", "l", "a four inch "),
        ("the NE ", "co", "w", "the N E "),
        ("is (well) ", "", "", "is , well "),
    ],
)
def test_what_decides_ends_the_wait(begun: str, undecided: str, decided: str, spoken: str) -> None:
    normaliser = Normaliser()
    early = said(list(normaliser.feed(begun + undecided)))
    assert early == (spoken if not decided else spoken[: len(early)])
    assert len(early) < len(spoken) or not decided, "it waits for what decides"
    assert early + said(list(normaliser.feed(decided))) == spoken


def test_time_grows_with_the_length_alone() -> None:
    """Text without white space, of signs that open or join something, is no slower by the character when it is long."""

    def seconds(text: str) -> float:
        start = process_time()
        read([text])
        return process_time() - start

    for unit in ("5", "-", "*", "_", "`", "(", "[a](", "1-", "$", "a/", "http://a.b/c?d=e&", "★", "Aa", "5+"):
        few, many = (unit * (size // len(unit)) for size in (2_000, 20_000))
        assert min(seconds(many) for _ in range(2)) < 40 * max(min(seconds(few) for _ in range(3)), 2e-3), unit


def test_pieces_point_into_the_written_text() -> None:
    text = "It costs $5 million, Dr. Who."
    pieces = [piece for piece in read([text]) if isinstance(piece, Spoken)]
    assert [(p.text.strip(), text[p.begin : p.end]) for p in pieces] == [
        ("It", "It"), ("costs", "costs"), ("five million dollars,", "$5 million,"), ("Doctor", "Dr."), ("Who.", "Who."),
    ]  # fmt: skip


def test_foreign_scripts_are_skipped_and_named() -> None:
    output = read(["Hello мир и 世界 there, naïve π."])
    assert said(output) == "Hello there, naive pi."
    (skipped,) = [piece for piece in output if isinstance(piece, Skipped)]
    assert (skipped.script, skipped.begin, skipped.end, skipped.sample) == ("cyrillic", 6, 14, "мири世界")
    assert said(read(["Hello мир there"], Normaliser(foreign=True))) == "Hello мир there"


def test_marks_that_nobody_sees_hide_no_heading() -> None:
    assert said(read(["\ufeff# Title\r\n\u200f- item"])) == "Title. item"


def test_what_has_no_end_is_not_waited_for() -> None:
    for opened in ("[a](http://x.com ", "<a ", "$x ", "`a ", "U.S. ", "5 - "):
        normaliser = Normaliser()
        assert len(said(list(normaliser.feed(opened + "and more words " * 20)))) > 200, opened


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(TokenizerError, match="surrogate"):
        read(["a\ud800b"])


def test_nothing_is_held_without_bound() -> None:
    normaliser = Normaliser()
    assert len(said(list(normaliser.feed("a" * 1000)))) > 700
    normaliser = Normaliser()
    assert said(list(normaliser.feed("```\n" + "x = 1\n" * 1000 + "```\nend "))).endswith("end ")
