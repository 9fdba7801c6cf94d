"""The CUDA runtime from end to end: its agreement with the torch runtime, and tokens a second.

Times are wall-clock times of a caller, so they include the host and the handling of contexts. The
weights are random. `kernels/tools/bench.py` runs this on a GPU, the tests on a CPU.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from mercury_kernels.adapter import Adapter
from mercury_kernels.architecture import Architecture
from mercury_kernels.case import Source
from mercury_kernels.dispatch import Operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Capture
from mercury_kernels.roofline import tokens_per_second
from mercury_kernels.rope.cases import rotation
from mercury_kernels.rope.reference import QkvEpilogue
from mercury_kernels.step import Adapters, LayerWeights, Network
from mercury_kernels.weights import MAX_MAGNITUDE, Weight
from mercury_kernels.workload import Workload
from mercury_model.decoding.unmasking import Threshold
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.bulk import BulkDenoiser, BulkParams
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import load_weights
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import KVCache
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig

MASK = 16
FORMAT = FimFormat(9, 8, 10, 0, MASK, 32, 1024, 1024, 1024, False, ("python",))
SMALL = ModelConfig(
    vocab_size=1000,
    hidden_size=128,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=64,
    intermediate_size=320,
    rope_theta=10_000.0,
    qkv_bias=True,
    tie_word_embeddings=False,
)


def random_network(
    shape: Architecture, weights: torch.dtype, positions: int, device: str
) -> Network:
    """A network of random weights, small enough that nothing overflows.

    Adapters, if the shape has any, act at MASK.
    """
    activations = weights if weights == torch.float32 else torch.bfloat16

    def matrix(rows: int, columns: int) -> Weight:
        if weights in MAX_MAGNITUDE:
            values = torch.randint(-8, 9, (rows, columns), device=device, dtype=torch.int8)
            scale = torch.full((rows,), 0.1 * columns**-0.5, device=device)
            return Weight(values.to(weights), scale)
        values = torch.empty(rows, columns, device=device, dtype=weights)
        return Weight(values.normal_(std=columns**-0.5))

    def adapter(rows: int, columns: int) -> Adapter:
        down = torch.empty(shape.gated_rank, columns, device=device, dtype=activations)
        up = torch.empty(rows, shape.gated_rank, device=device, dtype=activations)
        return Adapter(down.normal_(std=columns**-0.5), up.normal_(std=0.1))

    def adapters() -> Adapters:
        return Adapters(
            qkv=adapter(shape.qkv_width, shape.hidden_size),
            output=adapter(shape.hidden_size, mixed),
            gate_up=adapter(2 * shape.intermediate_size, shape.hidden_size),
            down=adapter(shape.hidden_size, shape.intermediate_size),
        )

    ones = torch.ones(shape.hidden_size, device=device, dtype=activations)
    mixed = shape.num_heads * shape.head_dim
    bias = torch.zeros(shape.qkv_width, device=device, dtype=activations)
    layers = tuple(
        LayerWeights(
            attention_norm=ones,
            qkv=matrix(shape.qkv_width, shape.hidden_size),
            epilogue=QkvEpilogue(bias=bias if shape.qkv_bias else None),
            output=matrix(shape.hidden_size, mixed),
            mlp_norm=ones,
            gate=matrix(shape.intermediate_size, shape.hidden_size),
            up=matrix(shape.intermediate_size, shape.hidden_size),
            down=matrix(shape.hidden_size, shape.intermediate_size),
            adapters=adapters() if index >= shape.num_layers - shape.gated_layers else None,
        )
        for index in range(shape.num_layers)
    )
    embedding = torch.empty(shape.vocabulary, shape.hidden_size, device=device, dtype=activations)
    return Network(
        embedding=embedding.normal_(),
        layers=layers,
        norm=ones,
        head=matrix(shape.vocabulary, shape.hidden_size),
        rotation=rotation(positions, shape.head_dim, Source(device)),
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        eps=1e-6,
        mask_id=MASK if shape.gated_layers else None,
    )


def random_tensors(config: ModelConfig, rank: int) -> dict[str, np.ndarray[Any, Any]]:
    """A checkpoint of random weights, with adapters at masks in the last layer."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)

    size = (config.vocab_size, config.hidden_size)
    ones = np.ones(config.hidden_size, np.float32)
    found = {"embedding": normal(*size) * 10, "norm": ones}
    if not config.tie_word_embeddings:
        found["head"] = normal(*size) * 4
    for index in range(config.num_layers):
        start = f"layers.{index}."
        found |= {f"{start}{norm}_norm": ones for norm in ("attention", "mlp")}
        for part, (rows, columns) in config.projections.items():
            found[start + part] = normal(rows, columns)
            if config.qkv_bias and part in "qkv":
                found[f"{start}{part}.bias"] = normal(rows)
            if rank:
                acts = float(index == config.num_layers - 1)
                found[f"{start}{part}.mask_a"] = normal(rank, columns)
                found[f"{start}{part}.mask_b"] = normal(rows, rank) * np.float32(acts)
    return found


def differences(do: Operations, capture: Capture, device: str) -> dict[str, float]:
    """The largest difference of a probability from the torch runtime in fp32, by kind of call."""
    found = {}
    for config, rank in ((SMALL, 0), (replace(SMALL, qkv_bias=False, tie_word_embeddings=True), 5)):
        tensors = random_tensors(config, rank)
        weights = torch.float32 if device == "cpu" else torch.bfloat16
        network = load_weights(config, tensors, torch.device(device), MASK, 1024, weights)
        ours = CudaRuntime(ModelRunner(network, do, capture), config, MASK)
        theirs = TorchRuntime(load_denoiser(config, tensors, MASK), device, torch.float32)
        ids = [17 + 7 * n % 900 for n in range(150)]
        mine, its = (context(runtime, ids) for runtime in (ours, theirs))
        asked = {
            "denoise": [20, MASK, 21, *[MASK] * 9],
            "extend": [30, 31, 32],
            "verify": [40, 41, 42, MASK, MASK],
        }
        for name, block in asked.items():
            got, expected = (
                getattr(runtime, name)(kv, block) for runtime, kv in ((ours, mine), (theirs, its))
            )
            error = float(np.abs(got.probs - expected.probs).max())
            found[f"{name}, {'gated' if rank else 'plain'}"] = error
    return found


def context(runtime: CudaRuntime | TorchRuntime, ids: list[int]) -> KVCache:
    """A cache of the keys and values of `ids`, computed in chunks."""
    kv = runtime.new_kv_cache()
    for start in range(0, len(ids), CHUNK_TOKENS):
        runtime.extend(kv, ids[start : start + CHUNK_TOKENS])
    return kv


def through_the_runtime(
    work: Workload, engine: ModelRunner, clock: Callable[[], float], runs: int = 10
) -> dict[str, Any]:
    """Median seconds of each kind of call, and the tokens a second that follow from them.

    Random weights are never confident, so a step commits one token. The `tokens_per_second` at more
    tokens a step are computed from the time of a step and of the pass that caches a block.
    """
    a = work.architecture
    config = ModelConfig(
        vocab_size=a.vocabulary,
        hidden_size=a.hidden_size,
        num_layers=a.num_layers,
        num_heads=a.num_heads,
        num_kv_heads=a.num_kv_heads,
        head_dim=a.head_dim,
        intermediate_size=a.intermediate_size,
        rope_theta=10_000.0,
    )
    runtime = CudaRuntime(engine, config, MASK)
    ids = [17 + n % 900 for n in range(work.context)]
    masks = [MASK] * work.block

    def seconds(call: Callable[[], object]) -> float:
        call()  # captures what is not captured yet
        took = []
        for _ in range(runs):
            began = clock()
            call()
            took.append(clock() - began)
        return median(took)

    kvs = [context(runtime, ids) for _ in range(work.batch)]
    one = kvs[0]
    bulk = BulkDenoiser(runtime, FORMAT, steps=4)
    blocks = [masks] * work.batch

    def keep() -> None:
        runtime.verify_all(kvs, [ids[: work.block]] * work.batch)
        for kv in kvs:
            kv.truncate(work.context)

    def chunk() -> None:
        runtime.extend(one, ids[:CHUNK_TOKENS])
        one.truncate(work.context)

    keeping = seconds(keep)
    whole = seconds(lambda: list(bulk.commit(kvs, blocks, BulkParams(Threshold(math.inf)))))
    step = whole / (-(-work.block // 4) * 4)
    return {
        "context_chunk_seconds": seconds(chunk),
        "interactive_step_seconds": seconds(lambda: runtime.denoise(one, masks)),
        "bulk_step_seconds": step,
        "keep_seconds": keeping,
        "measured_tokens_per_second": work.batch * work.block / (whole + keeping),
        "tokens_per_second": {
            n: work.batch * tokens_per_second(work, step, n) for n in (1, 2, 4, 8)
        },
    }
