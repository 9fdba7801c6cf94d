"""Checkpoints of random weights, named as checkpoints name them."""

import numpy as np
from numpy.typing import NDArray

from mercury_model.spec.model_config import ModelConfig

Tensors = dict[str, NDArray[np.float32]]


def tensors(config: ModelConfig) -> Tensors:
    """Plain ones, norms away from one."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, np.float32) * np.float32(0.3)

    vocabulary = (config.vocab_size, config.hidden_size)
    found = {"embedding": normal(*vocabulary), "norm": 1 + normal(config.hidden_size)}
    if not config.tie_word_embeddings:
        found["head"] = normal(*vocabulary)
    for index in range(config.num_layers):
        layer: Tensors = {part: normal(*shape) for part, shape in config.projections.items()}
        layer |= {f"{norm}_norm": 1 + normal(config.hidden_size) for norm in ("attention", "mlp")}
        if config.qkv_bias:
            layer |= {f"{x}.bias": normal(config.projections[x][0]) for x in "qkv"}
        if config.qk_norm:
            layer |= {f"{x}_norm": 1 + normal(config.head_dim) for x in "qk"}
        found |= {f"layers.{index}.{name}": values for name, values in layer.items()}
    return found


def adapted(config: ModelConfig, shared: str) -> Tensors:
    """With adapters at masks in the second layer; those of `shared` read the same inner half."""
    found, rng = tensors(config), np.random.default_rng(1)
    first: dict[str, NDArray[np.float32]] = {}
    for part, (rows, columns) in config.projections.items():
        inner = rng.standard_normal((3, columns), np.float32) * np.float32(0.3)
        if part in shared:
            inner = first.setdefault("shared", inner)
        for layer, size in (("0", 0), ("1", 1)):
            up = rng.standard_normal((rows, 3), np.float32) * np.float32(0.3 * size)
            found |= {f"layers.{layer}.{part}.mask_a": inner, f"layers.{layer}.{part}.mask_b": up}
    return found
