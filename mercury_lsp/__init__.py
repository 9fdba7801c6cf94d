"""mercury-lsp: inline code completion from a diffusion language model on the user's own machine."""

__version__ = "0.1.0"

__all__ = ["__version__"]
