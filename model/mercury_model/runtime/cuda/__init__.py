"""The runtime on the Triton kernels: how a server runs on a CUDA GPU."""
