"""Judging speech by machine: recognisers, signal checks."""
