"""The diffusion language model: denoiser, forward and reverse process, weights, runtimes."""
