"""mercury-lsp: inline code completion from a diffusion language model on the user's own machine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercury_lsp.api import (
        CompletionCache,
        MercuryCodeCompletion,
        MercuryCoder,
        MercuryInferenceEngine,
    )
    from mercury_model.serving import DynamicBatcher

__version__ = "0.1.0"

__all__ = [
    "CompletionCache",
    "DynamicBatcher",
    "MercuryCodeCompletion",
    "MercuryCoder",
    "MercuryInferenceEngine",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """The library's names, imported when they are first used: the server needs none of them."""
    if name in __all__:
        module = "mercury_model.serving" if name == "DynamicBatcher" else "mercury_lsp.api"
        return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
