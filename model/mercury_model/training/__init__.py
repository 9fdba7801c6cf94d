"""Data, training and evaluation of the diffusion language model. Imports torch."""
