"""Corpora: manifests made of what is public or at hand, and shards of codes or latents."""
