"""One denoising step over a batch of blocks: run the network, choose tokens, commit some of them.

A step reads and writes the buffers of a `State`. These never move, and no launch depends on their
contents, so `passes` can capture a step once and replay it. Knows no text and no clock.
"""

# mypy: allow-untyped-calls

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding

from mercury_kernels.adapter import Adapter, Gated
from mercury_kernels.attention.reference import CausalTokens
from mercury_kernels.choose.reference import SamplingTensors
from mercury_kernels.commit.reference import Policy
from mercury_kernels.dispatch import Operations
from mercury_kernels.head.reference import Predicted
from mercury_kernels.kl_divergence.reference import PreviousPredictions
from mercury_kernels.paged import PAGE, PagedKVCache, Pages
from mercury_kernels.rope.reference import QkvEpilogue, Rotation
from mercury_kernels.weights import Rows, Weight


@dataclass(frozen=True, slots=True)
class Adapters:
    """The adapters of one layer, which act at masks: one for each product of `LayerWeights`."""

    qkv: Adapter
    output: Adapter
    gate_up: Adapter
    down: Adapter


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The weights of one layer. `qkv` [(H_q + 2 H_kv) · D, N] has queries, keys, then values."""

    attention_norm: Tensor
    qkv: Weight
    epilogue: QkvEpilogue
    output: Weight
    mlp_norm: Tensor
    gate: Weight
    up: Weight
    down: Weight
    adapters: Adapters | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A Llama-shaped decoder on one device. `embedding` [V, N] sets the activation dtype.

    `vocabulary` is as in `predict`. Adapters act where the id is `mask_id`, which is None without
    adapters. With adapters, the tokens of a block do not attend to its masks, so their outputs are
    those of the autoregressive network. A step of `quantize_activations_from` rows or more
    quantizes the activations before each product; its weights must be fp8.
    """

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Weight
    rotation: Rotation
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    vocabulary: Tensor | None = None
    mask_id: int | None = None
    quantize_activations_from: int | None = None

    def empty_pages(self, count: int, dtype: torch.dtype) -> Pages:
        """`count` empty pages of keys and values for all layers, in the activation dtype or fp8."""
        heads = (self.num_kv_heads, self.head_dim)
        return Pages.empty(len(self.layers), count, heads, dtype, self.embedding)


@dataclass(frozen=True, slots=True)
class TokenConstraints:
    """The token ids of the FIM format; see `mercury_model.spec.fim_format.FimFormat`.

    `forbidden` [F] int32 are ids that are never chosen. `top` is the number of candidates of a
    position.
    """

    mask_id: int
    eos_id: int
    shift: int
    forbidden: Tensor
    top: int = 16


@dataclass(frozen=True, slots=True)
class Bucket:
    """The shape of a captured step: sequences, positions of a block, pages of a sequence."""

    batch: int
    block: int
    pages: int


CANVASES = (128, 256, 512, 1024, 2048, 4096)
"""Block lengths of networks that denoise a whole canvas. They run one at a time: one canvas keeps
the device busy."""

SIZES = ((1, 32), (1, 16), (1, 64), (8, 32), (32, 32), *((1, length) for length in CANVASES))
"""(batch, block): one interactive request with blocks of several lengths, batches of a server, and
canvases."""

PAGES = (8, 32, 128)
"""Pages of a sequence: context and block together have up to 512, 2,048 or 8,192 tokens."""

BUCKETS = tuple(
    Bucket(batch, block, pages)
    for batch, block in SIZES
    for pages in PAGES
    if block <= pages * PAGE
)


def smallest_bucket(
    buckets: Iterable[Bucket], batch: int, block: int, context: int
) -> Bucket | None:
    """The cheapest bucket for `batch` blocks, each after `context` tokens; None if none is large
    enough.
    """
    fits = [
        bucket
        for bucket in buckets
        if bucket.batch >= batch
        and bucket.block >= block
        and bucket.pages * PAGE >= context + bucket.block
    ]
    return min(fits, key=lambda b: (b.batch * b.block, b.pages), default=None)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a step, as views of one int32 `buffer`, so that one copy transfers all.

    `ids` [B, T]; `committed` [B, T] fp32, see `commit`; `start` [B], the position of the block in
    its sequence; `visible` [B, T], see `attend`; `table` [B, P], see `PagedKVCache`. A row of zeros
    is a row without a sequence.
    """

    buffer: Tensor
    ids: Tensor
    committed: Tensor
    start: Tensor
    visible: Tensor
    table: Tensor

    @classmethod
    def split(cls, buffer: Tensor, bucket: Bucket) -> "Inputs":
        """The views of a buffer of `size(bucket)` int32 elements."""
        parts, at = [], 0
        for shape in _shapes(bucket):
            count = math.prod(shape)
            parts.append(buffer.narrow(0, at, count).view(shape))
            at += _aligned(count)
        ids, committed, *others = parts
        return cls(buffer, ids, committed.view(torch.float32), *others)

    @staticmethod
    def size(bucket: Bucket) -> int:
        """The number of int32 elements of the buffer."""
        return sum(_aligned(math.prod(shape)) for shape in _shapes(bucket))


def _shapes(bucket: Bucket) -> tuple[tuple[int, ...], ...]:
    block = (bucket.batch, bucket.block)
    return block, block, (bucket.batch,), block, (bucket.batch, bucket.pages)


def _aligned(count: int) -> int:
    """Kernels rely on addresses that are multiples of 16 bytes: four elements."""
    return -(-count // 4) * 4


@dataclass(frozen=True, slots=True)
class State:
    """The buffers of one bucket, on the device.

    `caches`, one for each layer, share the page table of the inputs. `remaining` [B] int32 is the
    number of masks after the step. `previous` are the predictions of the step before, None unless
    the policy needs them. `allowed` [B · T, V] are the tokens that each row may give, None if every
    row may give all. A row without a sequence has no masks, attends to nothing, and writes no keys.
    """

    inputs: Inputs
    caches: tuple[PagedKVCache, ...]
    sampling: SamplingTensors
    policy: Policy
    remaining: Tensor
    previous: PreviousPredictions | None = None
    allowed: Tensor | None = None

    @classmethod
    def empty(cls, network: Network, bucket: Bucket, pages: Pages) -> "State":
        """Buffers without sequences, over `pages` (see `Network.empty_pages`).

        The policy is a threshold. Every entry of the page table is 0.
        """
        device = network.embedding.device
        batch = bucket.batch
        buffer = torch.zeros(Inputs.size(bucket), dtype=torch.int32, device=device)
        inputs = Inputs.split(buffer, bucket)
        floats = torch.zeros(batch, dtype=torch.float32, device=device)
        ints = torch.zeros(batch, dtype=torch.int32, device=device)
        return cls(
            inputs=inputs,
            caches=pages.caches(inputs.table),
            sampling=SamplingTensors(
                seeds=torch.zeros(batch, dtype=torch.int64, device=device),
                start=ints.clone(),
                temperature=floats.clone(),
                rank=ints.clone(),
            ),
            policy=Policy("threshold", torch.full_like(floats, 0.9), floats.clone()),
            remaining=ints.clone(),
        )

    def restricted(self, vocabulary: int) -> "State":
        """The same buffers with a restriction of each row to some of `vocabulary` tokens."""
        ids = self.inputs.ids
        allowed = torch.ones(ids.numel(), vocabulary, dtype=torch.bool, device=ids.device)
        return replace(self, allowed=allowed)

    def klass(self, top: int) -> "State":
        """The same buffers under the policy "klass", with the `top` previous candidates."""
        bound = self.policy.bound
        policy = replace(self.policy, kind="klass", max_kl=torch.full_like(bound, 0.01))
        shape = (*self.inputs.ids.shape, top)
        previous = PreviousPredictions.empty(shape, bound.device)
        return replace(self, policy=policy, previous=previous)


def hidden_states(network: Network, state: State, ops: Operations) -> Rows:
    """Run the network over every block and write their keys and values into the caches.

    Returns the hidden states [B · T, N] after the last norm, as `predict` takes them.
    """
    inputs = state.inputs
    batch, block = inputs.ids.shape
    rows = batch * block
    ids = inputs.ids.view(rows)
    residual = embedding(ids, network.embedding)
    width = residual.shape[1]
    parts = torch.empty(0, rows, width, dtype=torch.float32, device=residual.device)
    least = network.quantize_activations_from
    quantizes = least is not None and rows >= least

    def activations(x: Tensor) -> Rows:
        return ops.quantize(x) if quantizes else x

    mask_id = network.mask_id
    causal_tokens = None
    if mask_id is not None:
        causal_tokens = CausalTokens(inputs.ids, mask_id, inputs.start)
    for layer, cache in zip(network.layers, state.caches, strict=True):
        gated = _gated(layer.adapters, ids, mask_id)
        x = ops.add_rmsnorm(parts, residual, layer.attention_norm, network.eps)
        q = x.new_empty(batch, block, network.num_heads, network.head_dim)
        projected = ops.linear(activations(x), layer.qkv, gated["qkv"])
        ops.rotate_and_cache(
            projected, layer.epilogue, network.rotation, inputs.start, inputs.visible, q, cache
        )
        mixed = ops.attend(q, inputs.visible, cache, causal_tokens)
        parts = ops.linear(activations(mixed.view(rows, -1)), layer.output, gated["output"])
        x = ops.add_rmsnorm(parts, residual, layer.mlp_norm, network.eps)
        inner = ops.swiglu(activations(x), layer.gate, layer.up, gated["gate_up"])
        parts = ops.linear(activations(inner), layer.down, gated["down"])
    return activations(ops.add_rmsnorm(parts, residual, network.norm, network.eps))


def _gated(
    adapters: Adapters | None, ids: Tensor, mask_id: int | None
) -> Mapping[str, Gated | None]:
    """The adapters of a layer by product, gated by the masks among its rows."""
    if adapters is None or mask_id is None:
        return dict.fromkeys(("qkv", "output", "gate_up", "down"))
    return {
        "qkv": Gated(adapters.qkv, ids, mask_id),
        "output": Gated(adapters.output, ids, mask_id),
        "gate_up": Gated(adapters.gate_up, ids, mask_id),
        "down": Gated(adapters.down, ids, mask_id),
    }


def predict_rows(network: Network, state: State, top: int, ops: Operations) -> Predicted:
    """Run every block and predict the token of each of its rows. Commits nothing."""
    hidden = hidden_states(network, state, ops)
    return ops.predict(hidden, network.head, top, network.vocabulary, state.allowed)


def denoise(network: Network, state: State, constraints: TokenConstraints, ops: Operations) -> None:
    """One step: run every block, commit what the policy chooses, count the remaining masks."""
    predicted = predict_rows(network, state, constraints.top, ops)
    ids, committed, shift = state.inputs.ids, state.inputs.committed, constraints.shift
    choices = ops.choose(
        predicted, ids, state.sampling, constraints.forbidden, constraints.eos_id, shift
    )
    if state.previous is not None:
        choices = replace(choices, kl=ops.kl_divergence(predicted, state.previous, shift))
    ops.commit(ids, committed, choices, state.policy, constraints.mask_id, state.remaining)
