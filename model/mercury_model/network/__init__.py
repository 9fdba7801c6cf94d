"""The network in torch: the denoiser and its KV cache."""
