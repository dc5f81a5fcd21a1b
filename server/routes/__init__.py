"""Protocols: each route is a thin translation between a wire format and an utterance."""
