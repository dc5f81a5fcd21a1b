"""Encodec-architecture codec: networks, quantiser, weights, stateful streaming decode."""
