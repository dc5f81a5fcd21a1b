"""Voices: what comes with checkpoints, what was cloned here, and the rules for recordings."""
