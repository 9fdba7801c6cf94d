"""The files of an ONNX graph, and which networks can have one. Imports no ONNX."""

from pathlib import Path

from mercury_model.spec.model_config import ModelConfig

MAX_BATCH_SIZE = 4
"""How many contexts a graph has that takes several calls at once."""


GATED = "gated"
"""What a graph says of itself whose adapters act on masks alone: its tokens see none of these."""


def has_graph(config: ModelConfig) -> bool:
    """Whether ONNX Runtime has an attention for a network: without norms, of a width of 16s."""
    return not config.qk_norm and config.head_dim % 16 == 0


def graph_files(path: Path) -> tuple[Path, Path, Path]:
    """A graph with one context, one with LANES of them, and the large constants of both."""
    return path, path.with_suffix(".lanes.onnx"), path.with_suffix(".weights")
