"""One denoise step over a batch of blocks: the network, the choice of tokens, their commitment.

Everything it reads and writes between steps lives in a `State` whose buffers never move, and
nothing in it depends on their contents, so that k steps can be captured once as a CUDA graph and
replayed: k = 1 where every draft is shown, more in bulk. Knows no text and no clock.
"""

# mypy: allow-untyped-calls

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

from mercury_kernels.choose.reference import Noise
from mercury_kernels.commit.reference import Policy
from mercury_kernels.dispatch import Operations
from mercury_kernels.paged import PAGE, Paged
from mercury_kernels.rope.reference import Projection, Rotation
from mercury_kernels.weights import Weight


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. `qkv` [(H_q + 2 H_kv) · D, N]: queries, keys, values."""

    attention_norm: Tensor
    qkv: Weight
    after: Projection
    output: Weight
    mlp_norm: Tensor
    gate: Weight
    up: Weight
    down: Weight


@dataclass(frozen=True, slots=True)
class Network:
    """A Llama-shaped decoder on one device. `embedding` [V, N] sets the activation type."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Weight
    rotation: Rotation
    heads: int
    kv_heads: int
    head_width: int
    eps: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What the weights' format asks of every step; see `mercury_model.config.InfillFormat`.

    `forbidden` [F] int32: ids that are never chosen. `top`: candidates a position has.
    """

    mask_id: int
    end_id: int
    shift: int
    forbidden: Tensor
    top: int = 16


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sizes that a captured step is for: sequences, positions of a block, pages of a sequence."""

    batch: int
    block: int
    pages: int


def smallest_bucket(
    buckets: Iterable[Bucket], batch: int, block: int, context: int
) -> Bucket | None:
    """The cheapest bucket that holds `batch` blocks after `context` tokens each, if any does."""
    fits = [
        bucket
        for bucket in buckets
        if bucket.batch >= batch
        and bucket.block >= block
        and bucket.pages * PAGE >= context + bucket.block
    ]
    return min(fits, key=lambda b: (b.batch * b.block, b.pages), default=None)


@dataclass(frozen=True, slots=True)
class State:
    """The buffers of a bucket, on the device.

    `ids` [B, T] int32; `start` [B] int32, the block's first position in its sequence; `visible`
    [B, T] int32, see `attend`; `caches`, one a layer, share a table; `floor` [B] fp32 or None, see
    `commit`; `left` [B] int32, how many positions are open after the step. A row without a
    sequence has no open position, sees nothing, and owns its pages.
    """

    ids: Tensor
    start: Tensor
    visible: Tensor
    caches: tuple[Paged, ...]
    noise: Noise
    policy: Policy
    floor: Tensor | None
    left: Tensor

    @classmethod
    def empty(cls, network: Network, bucket: Bucket, pages: int, cache: torch.dtype) -> "State":
        """Buffers with no sequence in them, over `pages` pages a layer; the policy a threshold."""
        device = network.embedding.device
        batch = bucket.batch
        whole = torch.zeros(batch, dtype=torch.int32, device=device)
        real = torch.zeros(batch, dtype=torch.float32, device=device)
        table = whole.new_zeros(batch, bucket.pages)
        held = torch.zeros(
            (len(network.layers), 2, pages, PAGE, network.kv_heads, network.head_width),
            dtype=cache,
            device=device,
        )
        return cls(
            ids=whole.new_zeros(batch, bucket.block),
            start=whole.clone(),
            visible=whole.new_zeros(batch, bucket.block),
            caches=tuple(
                Paged(keys, values, table)
                for keys, values in (layer.unbind() for layer in held.unbind())
            ),
            noise=Noise(
                seeds=torch.zeros(batch, dtype=torch.int64, device=device),
                start=whole.clone(),
                temperature=real.clone(),
                rank=whole.clone(),
            ),
            policy=Policy("threshold", torch.full_like(real, 0.9)),
            floor=None,
            left=whole.clone(),
        )


def hidden_states(network: Network, state: State, do: Operations) -> Tensor:
    """The network over every block: [B · T, N] after the last norm; caches hold the blocks too."""
    batch, block = state.ids.shape
    rows = batch * block
    residual = embedding(state.ids.view(rows), network.embedding)
    width = residual.shape[1]
    parts = torch.empty(0, rows, width, dtype=torch.float32, device=residual.device)
    for layer, cache in zip(network.layers, state.caches, strict=True):
        x = do.add_rmsnorm(parts, residual, layer.attention_norm, network.eps)
        q = x.new_empty(batch, block, network.heads, network.head_width)
        projected = do.linear(x, layer.qkv)
        do.rotate_and_cache(projected, layer.after, network.rotation, state.start, q, cache)
        mixed = do.attend(q, state.visible, cache)
        parts = do.linear(mixed.view(rows, -1), layer.output)
        x = do.add_rmsnorm(parts, residual, layer.mlp_norm, network.eps)
        parts = do.linear(do.swiglu(x, layer.gate, layer.up), layer.down)
    return do.add_rmsnorm(parts, residual, network.norm, network.eps)


def denoise(network: Network, state: State, rules: Rules, do: Operations) -> None:
    """One step: run every block, settle what the policy chooses, count what is left."""
    predicted = do.predict(hidden_states(network, state, do), network.head, rules.top)
    choices = do.choose(
        predicted, state.ids, state.noise, rules.forbidden, rules.end_id, rules.shift
    )
    do.commit(state.ids, choices, state.policy, rules.mask_id, state.floor, state.left)


class GraphedSteps:
    """`steps` denoise steps of a state, captured once and replayed without touching the host.

    Needs CUDA. Fill the state's buffers, `start()`, and ask `ready()` until it is so; then `ids`
    and `left`, in pinned host memory, hold the blocks and how many positions each has open.
    """

    def __init__(
        self, network: Network, state: State, rules: Rules, do: Operations, steps: int
    ) -> None:
        self.ids = torch.empty_like(state.ids, device="cpu").pin_memory()
        self.left = torch.empty_like(state.left, device="cpu").pin_memory()
        self._copied = torch.cuda.Event()
        self._graph = torch.cuda.CUDAGraph()
        before = state.ids.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles what is not compiled yet: no capture can
            denoise(network, state, rules, do)
        torch.cuda.current_stream().wait_stream(stream)
        state.ids.copy_(before)
        with torch.cuda.graph(self._graph):
            for _ in range(steps):
                denoise(network, state, rules, do)
            self.ids.copy_(state.ids, non_blocking=True)
            self.left.copy_(state.left, non_blocking=True)

    def start(self) -> None:
        """Queue the steps; returns at once."""
        self._graph.replay()
        self._copied.record()

    def ready(self) -> bool:
        """Whether the steps last started are done. Never waits."""
        return bool(self._copied.query())
