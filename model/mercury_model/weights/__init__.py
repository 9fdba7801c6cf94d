"""Weights from files to named tensors: formats, sources, the registry of known models."""
