"""The files of an ONNX graph, its metadata, and which networks can have one.

Imports no ONNX.
"""

import base64
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mercury_model.spec.model_config import ModelConfig

MAX_BATCH_SIZE = 4
"""The number of contexts of the graph that takes several calls at once."""

GATED = "gated"
"""The metadata key of a graph whose adapters act on masks alone: its tokens see no masks."""

VOCABULARY = "vocabulary"
"""The metadata key of the ids that a graph can predict, absent if it can predict all."""


def has_graph(config: ModelConfig) -> bool:
    """Whether ONNX Runtime has an attention operator for a network: without norms of queries and
    keys, and with heads whose width is a multiple of 16.
    """
    return not config.qk_norm and config.head_dim % 16 == 0


def graph_files(path: Path) -> tuple[Path, Path, Path]:
    """The graph of one context, the graph of MAX_BATCH_SIZE, and the large constants of both."""
    return path, path.with_suffix(".lanes.onnx"), path.with_suffix(".weights")


def written_ids(ids: NDArray[np.integer]) -> str:
    """Ids as metadata."""
    return base64.b64encode(ids.astype("<i4").tobytes()).decode("ascii")


def read_ids(text: str) -> NDArray[np.int64]:
    """The inverse of `written_ids`."""
    return np.frombuffer(base64.b64decode(text), "<i4").astype(np.int64)
