"""Whether capitals can be read as a word, by how English syllables begin and end."""

from __future__ import annotations

import re

from sled_tts.server.text.lexicon import words

_BEGIN = frozenset(
    words(
        "BL BR CH CL CR CZ DR DW FL FR GH GL GN GR KH KL KN KR PH PL PN PR PS RH SC SH SK SL SM SN SP SQ ST SV SW TH "
        "TR TS TW WH WR SCH SCR SHR SPH SPL SPR STR THR CHR PHR"
    )
)
_END = frozenset(
    words(
        "BB BS BT CH CK CS CT DD DS FF FS FT GG GH GN GS HN HS HT KS LD LF LK LL LM LN LP LS LT MB MN MP MS ND NG NK "
        "NN NS NT NX NZ PH PS PT RB RC RD RF RG RK RL RM RN RP RR RS RT RX SC SH SK SM SP SS ST TH TS TT TZ WD WK "
        "WL WN WS XT ZZ"
    )
)


def pronounceable(word: str) -> bool:
    """`NAFTA`, but not `TSLA`, `ESPN` nor `AARP`."""
    begin = re.match(r"[^AEIOU][^AEIOUY]+", word)
    end = re.search(r"[^AEIOUY]*([^AEIOUY]{2})$", word)
    doubled = re.match(r"AA|II|UU", word)
    return not (doubled or (begin and begin[0] not in _BEGIN) or (end and end[1] not in _END))
