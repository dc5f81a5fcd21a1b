"""Figures of the paper (arXiv 2505.13181), to stand beside ours. What we could not find in it or in summaries of it is
not here: Table 5, the values of Figure 3 other than those named below, Table 6 and Appendix B."""

from __future__ import annotations

from typing import Any

Rows = tuple[dict[str, Any], ...]

# Word error rates in percent of a hundred, as shares.
TABLE_1: Rows = (
    {"setting": "3 s prefix", "system": "recordings", "wer_c": 0.0178, "wer_h": 0.0215, "sim": 0.668},
    {"setting": "3 s prefix", "system": "SLED, 50,000 h", "wer_c": 0.0159, "wer_h": 0.0199, "sim": 0.515},
    {"setting": "reference utterance", "system": "recordings", "wer_c": 0.0178, "wer_h": 0.0215, "sim": 0.778},
    {"setting": "reference utterance", "system": "SLED, 50,000 h", "wer_c": 0.0151, "wer_h": 0.0197, "sim": 0.664},
)
TABLE_2: Rows = (
    {"system": "offline", "wer_c": 0.0167, "dnsmos": 3.58},
    {"system": "offline, with prompt", "wer_c": 0.0151, "dnsmos": 3.61},
    {"system": "streaming 5:20", "wer_c": 0.0218, "dnsmos": 3.59},
    {"system": "streaming 5:45", "wer_c": 0.0220, "dnsmos": 3.54},
)
TABLE_3: Rows = (
    {"system": "RMSE (no repulsive term)", "wer_c": 0.4060},
    {"system": "energy distance", "wer_c": 0.0159},
)
TABLE_4: Rows = (
    {"system": "SLED", "parameters_b": 0.2, "rtf": 0.8, "gflop_10s": 280.0},
    {"system": "DiTAR (patches of 4)", "parameters_b": 0.6, "rtf": 0.66, "gflop_10s": 2750.0},
)
TABLE_7: Rows = (
    {"batch": 1, "rtf": 0.8},
    {"batch": 16, "rtf": 0.055},
    {"batch": 64, "rtf": 0.027},
)
# What the text says of Figure 3; the points of its curves are not given as numbers.
FIGURE_3 = (
    "The paper's Figure 3, in words: streaming WER-C falls from 6.01 % without guidance to about 2.0 % at 1.5 and "
    "little after that; speaker similarity and DNSMOS are best at a moderate value, and at 2.5 the quality of "
    "streaming is below that without guidance. Its default is 2.0."
)
