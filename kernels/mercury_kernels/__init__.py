"""Triton kernels of the denoise step, each with its reference in plain torch."""
