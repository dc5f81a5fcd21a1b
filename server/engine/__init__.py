"""The engine: one thread that steps all live utterances together."""
