"""Audio formats: one encoder a file, each with `write(pcm)` and `finish()`."""
