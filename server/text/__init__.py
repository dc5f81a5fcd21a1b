"""Written English to what is said, as it arrives; see docs/text.md."""
