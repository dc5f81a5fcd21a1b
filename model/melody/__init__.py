"""Melody: the pitch that speech at one pitch is given on its way out (docs/decisions/0012-melody.md)."""
