"""Triton kernels of the denoise step, each with its reference in plain torch.

One folder an operation: `reference` is the specification, `kernel` must agree with it, `cases`
feeds the tests, the ahead-of-time compilation and the benchmark alike. Importing this package, or
any part of it but a `kernel` module, needs neither Triton nor a GPU.
"""
