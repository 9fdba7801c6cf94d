"""Triton kernels of the denoising step, each with a reference in plain torch.

Each operation has a folder: `reference` is the specification, `kernel` must agree with it, and
`cases` are the inputs of the tests, the ahead-of-time compilation and the benchmark. Only the
`kernel` modules need Triton when they are imported; nothing needs a GPU.
"""
