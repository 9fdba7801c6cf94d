"""A network small enough to train in milliseconds, and a feed of made-up code for it."""

import random
from collections.abc import Sequence

import numpy as np
import torch

from mercury_model.network.denoiser import Denoiser
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.adaptation import Adaptation, AdapterConfig, adaptation_trainer
from mercury_model.training.base import frozen
from mercury_model.training.collate import Blocks, Packed
from mercury_model.training.data import Source
from mercury_model.training.feed import ExampleFeed
from mercury_model.training.trainer import Trainer

CONFIG = ModelConfig(
    vocab_size=96,
    hidden_size=32,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    intermediate_size=48,
    rope_theta=10_000.0,
)
FORMAT = FimFormat(
    suffix_id=1,
    prefix_id=2,
    middle_id=3,
    eos_id=0,
    mask_id=4,
    block_length=6,
    prefix_tokens=64,
    suffix_tokens=32,
    middle_tokens=24,
    shift=True,
    languages=("python",),
    characters_per_token=5,
)


def encode(text: str) -> list[int]:
    """One id for each character, clear of the marks."""
    return [5 + ord(c) % 91 for c in text]


def random_tensors(c: ModelConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by the names of a checkpoint."""
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    tensors = {
        "embedding": matrix(c.vocab_size, c.hidden_size),
        "norm": np.ones(c.hidden_size, np.float32),
    }
    for i in range(c.num_layers):
        tensors |= {f"layers.{i}.{part}": matrix(*shape) for part, shape in c.projections.items()}
        for norm in ("attention_norm", "mlp_norm"):
            tensors[f"layers.{i}.{norm}"] = 1 + 0.1 * draw.standard_normal(
                c.hidden_size, np.float32
            )
        if c.qkv_bias:
            tensors |= {
                f"layers.{i}.{part}.bias": draw.standard_normal(c.projections[part][0], np.float32)
                for part in "qkv"
            }
    return tensors


def tiny(seed: int = 0) -> Denoiser:
    """Frozen weights in fp32."""
    return frozen(CONFIG, random_tensors(CONFIG, seed), torch.device("cpu"), torch.float32)


def trainer(config: AdapterConfig) -> Trainer[Sequence[Packed]]:
    """An adaptation of `tiny` on made-up code."""
    network = tiny()
    return adaptation_trainer(network, Adaptation.of(network, config), config, feed())


def code(seed: int = 0, functions: int = 12) -> str:
    """A module of little functions."""
    draw = random.Random(seed)
    names = ["alpha", "beta", "count", "item", "total", "width"]
    lines = []
    for i in range(functions):
        a, b = draw.sample(names, 2)
        lines += [
            f"def f{i}({a}, {b}):",
            f"    if {a} > {draw.randint(0, 99)}:",
            f"        return g({a}, {b}[{i}])",
            f"    return {a} + {b}",
            "",
        ]
    return "\n".join(lines)


def feed(seed: str = "1") -> ExampleFeed:
    """Examples from made-up Python."""
    sources = [Source("python", "made-up", "MIT", f"{i}.py", code(i)) for i in range(4)]
    return ExampleFeed({"python": sources}, encode, FORMAT, Blocks(), seed)
