"""Kernels of a step on a GPU, written in Triton, and the same functions in plain torch for everywhere else."""
