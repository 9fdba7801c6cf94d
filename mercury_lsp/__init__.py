"""mercury-lsp: inline code completion from a diffusion language model on the user's own machine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mercury_lsp.api import (
        CompletionCache,
        MercuryCodeCompletion,
        MercuryCoder,
        MercuryInferenceEngine,
        Prompt,
    )
    from mercury_lsp.config import Config
    from mercury_lsp.core.types import Completion
    from mercury_model.decoding.params import SamplingParams
    from mercury_model.decoding.prompt import FimPrompt
    from mercury_model.errors import (
        InsufficientMemory,
        ModelError,
        Overloaded,
        RuntimeUnavailable,
        WeightsCorrupted,
        WeightsMissing,
        WeightsUnsupported,
    )
    from mercury_model.load import LoadedModel, load
    from mercury_model.serving import DynamicBatcher, EngineLimits, InfillRequest, Priority

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "CompletionCache",
    "Config",
    "DynamicBatcher",
    "EngineLimits",
    "FimPrompt",
    "InfillRequest",
    "InsufficientMemory",
    "LoadedModel",
    "MercuryCodeCompletion",
    "MercuryCoder",
    "MercuryInferenceEngine",
    "ModelError",
    "Overloaded",
    "Priority",
    "Prompt",
    "RuntimeUnavailable",
    "SamplingParams",
    "WeightsCorrupted",
    "WeightsMissing",
    "WeightsUnsupported",
    "__version__",
    "load",
]

_MODULES = {
    "Completion": "mercury_lsp.core.types",
    "Config": "mercury_lsp.config",
    "FimPrompt": "mercury_model.decoding.prompt",
    "SamplingParams": "mercury_model.decoding.params",
    **dict.fromkeys(("LoadedModel", "load"), "mercury_model.load"),
    **dict.fromkeys(
        ("DynamicBatcher", "EngineLimits", "InfillRequest", "Priority"), "mercury_model.serving"
    ),
    **dict.fromkeys(
        (
            "CompletionCache",
            "MercuryCodeCompletion",
            "MercuryCoder",
            "MercuryInferenceEngine",
            "Prompt",
        ),
        "mercury_lsp.api",
    ),
    **dict.fromkeys(
        (
            "InsufficientMemory",
            "ModelError",
            "Overloaded",
            "RuntimeUnavailable",
            "WeightsCorrupted",
            "WeightsMissing",
            "WeightsUnsupported",
        ),
        "mercury_model.errors",
    ),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package stays cheap."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
