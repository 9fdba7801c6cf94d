"""mercury-lsp: inline code completion from a diffusion language model on the user's own machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercury_lsp.api import CompletionCache, MercuryCodeCompletion, MercuryCoder

__version__ = "0.1.0"

__all__ = ["CompletionCache", "MercuryCodeCompletion", "MercuryCoder", "__version__"]


def __getattr__(name: str) -> Any:
    """The library's names, imported when they are first used: the server needs none of them."""
    if name in __all__:
        from mercury_lsp import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
