"""Audio formats: one encoder a file, each with `encode(pcm)` and `finish()`."""
