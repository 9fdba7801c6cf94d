"""The divergence of each prediction from the previous step, which it then replaces."""
