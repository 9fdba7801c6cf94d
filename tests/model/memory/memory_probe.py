"""Runs a network of a given shape alone in a process; prints by how many bytes its memory grew.

`python memory_probe.py '<json>'`. What loads and warms up beforehand is not counted: libraries,
threads, and what MKL and oneDNN keep for shapes that they have seen. Weights are made up: what
they weigh does not depend on what they say.
"""

import ctypes
import gc
import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mercury_model.network.adapters import LowRankAdapters
from mercury_model.network.attention import MaskedAttention
from mercury_model.network.denoiser import Denoiser
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.adaptation import Adaptation, AdapterConfig, adaptation_trainer
from mercury_model.training.collate import Blocks, Branch, Example, Packed, pack
from mercury_model.training.feed import MAX_CUTS, ExampleFeed

MASK = 5
FORMAT = FimFormat(1, 2, 3, 0, MASK, 8, 64, 32, 24, True, ("python",))


class Rows:
    """Keys and values of several sequences of one length, written in place."""

    def __init__(self, config: ModelConfig, batch: int, capacity: int, dtype: torch.dtype) -> None:
        shape = (config.num_layers, 2, batch, config.num_kv_heads, capacity, config.head_dim)
        self.buffer = torch.empty(shape, dtype=dtype)
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `attention.KVStore`."""
        end = self.length + keys.shape[2]
        mine = self.buffer[layer]
        mine[0, :, :, self.length : end] = keys
        mine[1, :, :, self.length : end] = values
        return mine[0, :, :, :end], mine[1, :, :, :end]


def network(config: ModelConfig, rank: int, dtype: torch.dtype) -> Denoiser:
    with torch.device("meta"):
        gated = LowRankAdapters.zeros(config, rank) if rank else None
        model = Denoiser(config, gated, MASK).to(dtype)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    return model


def infer(config: ModelConfig, case: dict[str, Any]) -> None:
    """Read `tokens` of context in chunks, then denoise a block, for a batch of sequences."""
    dtype = getattr(torch, case["dtype"])
    model = network(config, case["rank"], dtype)
    runtime = TorchRuntime(model, dtype=dtype)
    batch, tokens, block = case["batch"], case["tokens"] - case["block"], case["block"]
    if batch == 1:
        kv = runtime.new_kv_cache()
        kv.reserve(tokens + block)
        for start in range(0, tokens, CHUNK_TOKENS):
            runtime.extend(kv, [7] * min(CHUNK_TOKENS, tokens - start))
        runtime.denoise(kv, [MASK] * block)
        runtime.denoise(kv, [MASK] * block)
        return
    rows = Rows(config, batch, tokens + block, dtype)
    rows.buffer.fill_(0.01)
    rows.length = tokens
    with torch.inference_mode():
        ids = torch.full((batch, block), MASK)
        positions = torch.arange(tokens, tokens + block).expand(batch, block)
        for _ in range(2):
            hidden = model(ids, positions, MaskedAttention(None, rows))
            runtime._predict(hidden.flatten(0, 1)[None])
            del hidden


class OneExample:
    """A feed that always has the same rows, `tokens` of them clean, laid out anew each time."""

    def __init__(self, tokens: int, middle: int = 30, cursors: int = MAX_CUTS) -> None:
        ids = (FORMAT.middle_id, *[9] * middle, FORMAT.eos_id)
        chain = tokens - cursors * len(ids)
        branches = tuple(Branch(chain - i, ids, 1, True) for i in range(cursors))
        self._example = Example(tuple([8] * chain), 2, branches)

    def packed(self, number: int) -> Packed:
        return pack(self._example, Blocks(shortest=Blocks().longest), FORMAT, random.Random(number))

    def batch(self, step: int, examples: int) -> list[Packed]:
        return [self.packed(step * examples + i) for i in range(examples)]


def train(config: ModelConfig, case: dict[str, Any]) -> None:
    """Two steps of the adaptation: from the second on, the optimiser has its moments."""
    plan = AdapterConfig(
        examples=case["batch"], first_layer=case["first_layer"], recompute=case["recompute"]
    )
    frozen = network(config, 0, getattr(torch, case["dtype"])).requires_grad_(False)
    feed: ExampleFeed = OneExample(case["tokens"])  # type: ignore[assignment]
    steps = adaptation_trainer(frozen, Adaptation.of(frozen, plan), plan, feed).steps()
    for _ in range(2):
        next(steps)


def grown(work: Callable[[], object], warm: Callable[[], object]) -> int:
    """By how many bytes the memory of this process rises while it does `work`."""
    warm()
    commit()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    work()
    return memory("VmHWM") - before


def commit() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def main() -> None:
    torch.set_num_threads(1)
    case = json.loads(sys.argv[1])
    config = ModelConfig(**case["config"])
    do = {"infer": infer, "train": train}[case["kind"]]
    warm = replace(config, num_layers=1)
    most = grown(lambda: do(config, case), lambda: do(warm, {**case, "first_layer": 0}))
    sys.stdout.write(f"{most}\n")


main()
