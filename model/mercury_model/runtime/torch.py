"""The denoiser in torch: the reference on a CPU, and the way to run on CUDA without the kernels.

No other module of the package imports this one: a server on a CPU runs without torch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.network.attention import MaskedAttention
from mercury_model.network.denoiser import Denoiser, load_denoiser
from mercury_model.network.kv_cache import BatchedKV, KVSlice, TorchKVCache
from mercury_model.runtime.limits import BLOCKED_LOGIT, MAX_POSITIONS, TOP_K, kv_capacity
from mercury_model.runtime.protocol import (
    ForwardCall,
    KVCache,
    Predictions,
    SingleCalls,
    check_batch,
    check_canvas_rows,
    count_before_masks,
    restriction,
    split_predictions,
)
from mercury_model.spec.model_config import ModelConfig

MAX_BATCH_SIZE = 16
"""The most calls that share a pass: their attention scores are one matrix, mostly masked."""


class TorchRuntime(SingleCalls):
    """The denoiser in torch; implements `CanvasRuntime` and `ReloadableRuntime`.

    `threads` 0 leaves the choice to torch. `dtype` defaults to `fastest_dtype`.
    """

    def __init__(
        self,
        model: Denoiser,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        threads: int = 0,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._dtype = dtype or fastest_dtype(self._device)
        self._model = model.to(self._device, self._dtype).eval().requires_grad_(False)

    @property
    def config(self) -> ModelConfig:
        """See `Runtime`."""
        return self._model.config

    @property
    def vocabulary(self) -> NDArray[np.int64] | None:
        """See `Runtime`."""
        ids = self._model.vocabulary
        return None if ids is None else ids.cpu().numpy().astype(np.int64)

    @property
    def name(self) -> str:
        """See `Runtime`."""
        kind = str(self._dtype).removeprefix("torch.")
        return f"torch {self._device} {kind}, {torch.get_num_threads()} threads"

    @property
    def max_batch_size(self) -> int:
        """See `Runtime`."""
        return MAX_BATCH_SIZE

    def load_weights(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """See `ReloadableRuntime`."""
        try:
            model = load_denoiser(self.config, tensors, self._model.mask_id)
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit the network: {error}") from error
        self._model = model.to(self._device, self._dtype).eval().requires_grad_(False)

    def new_kv_cache(self) -> KVCache:
        """See `Runtime`."""
        return TorchKVCache(self.config, self._dtype, self._device)

    def kv_bytes(self, tokens: int) -> int:
        """See `Runtime`."""
        return kv_capacity(tokens) * self.config.kv_bytes_per_token * self._dtype.itemsize // 4

    def renew(self, kv: KVCache, ids: Sequence[int], at: int = 0) -> Predictions:
        """See `CanvasRuntime`.

        With gated adapters, tokens among these rows see no row after their own.
        """
        mine = self._own(kv)
        more = check_canvas_rows(mine, ids, at, MAX_POSITIONS)
        mine.reserve(more)
        attend = None
        if self._model.gated is not None:
            attend = self._sight(ids, at, mine.length + more)[None, None].to(self._device)
        with torch.inference_mode():
            hidden: Tensor = self._model(
                torch.tensor([list(ids)], device=self._device),
                torch.arange(at, at + len(ids), device=self._device)[None],
                MaskedAttention(attend, KVSlice(mine, at)),
            )
        mine.advance(more)
        return self._predict(hidden[0])

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """See `Runtime`. Results differ by the rounding of sums in another order."""
        parts = [
            hidden[call.predicted :]
            for call, hidden in zip(calls, self._hidden(calls), strict=True)
        ]
        predictions = self._predict(torch.cat(parts), restriction(calls, self.vocabulary))
        return split_predictions(predictions, [len(part) for part in parts])

    def logits(self, kv: KVCache, ids: Sequence[int]) -> Tensor:
        """The causal logits [len(ids), V] in fp32, `kv` extended; for comparing networks."""
        with torch.inference_mode():
            return (
                self._model.logits(self._hidden([ForwardCall("extend", kv, ids)])[0])
                .float()
                .clone()
            )

    def _hidden(self, calls: Sequence[ForwardCall]) -> tuple[Tensor, ...]:
        """The hidden rows [T, D] of each call, run as one sequence that attention separates."""
        check_batch(calls, self.max_batch_size, self.config.vocab_size, MAX_POSITIONS)
        kvs, rows = [self._own(call.kv) for call in calls], [len(call.ids) for call in calls]
        for kv, count in zip(kvs, rows, strict=True):
            kv.reserve(count)
        with torch.inference_mode():
            ids = torch.tensor([[token for call in calls for token in call.ids]])
            places = [
                torch.arange(kv.length, kv.length + count)
                for kv, count in zip(kvs, rows, strict=True)
            ]
            hidden: Tensor = self._model(
                ids.to(self._device),
                torch.cat(places)[None].to(self._device),
                MaskedAttention(
                    self._attend(calls, kvs), kvs[0] if len(kvs) == 1 else BatchedKV(kvs, rows)
                ),
            )
        for call, kv in zip(calls, kvs, strict=True):
            if call.kind != "denoise":
                kv.advance(count_before_masks(call.ids, self._model.mask_id))
        parts: tuple[Tensor, ...] = torch.split(hidden[0], rows)
        return parts

    def _attend(self, calls: Sequence[ForwardCall], kvs: Sequence[TorchKVCache]) -> Tensor | None:
        """[1, 1, T, S]: which keys each row sees; None for a block that sees everything."""
        whole = [call.kind == "denoise" and self._model.gated is None for call in calls]
        if whole == [True]:
            return None
        sights = [
            torch.ones(len(call.ids), kv.length + len(call.ids), dtype=torch.bool)
            if everything
            else self._sight(call.ids, kv.length, kv.length + len(call.ids))
            for call, kv, everything in zip(calls, kvs, whole, strict=True)
        ]
        attend: Tensor = torch.block_diag(*sights)  # type: ignore[no-untyped-call]
        return attend[None, None].to(self._device)

    def _sight(self, ids: Sequence[int], at: int, length: int) -> Tensor:
        """Which of `length` positions each row from position `at` on sees: bool [T, S].

        Masks see everything. Tokens see the tokens up to themselves, and no mask among these rows.
        """
        masked = torch.tensor([token == self._model.mask_id for token in ids])
        sight = torch.ones(len(ids), length, dtype=torch.bool).tril(diagonal=at)
        sight[:, at : at + len(ids)] &= ~masked
        sight |= masked[:, None]
        return sight

    def _predict(self, hidden: Tensor, allowed: NDArray[np.bool_] | None = None) -> Predictions:
        """The predictions for `hidden` [R, D], each row restricted to `allowed` [R, V']."""
        with torch.inference_mode():
            logits, vocabulary = self._model.logits(hidden), self._model.vocabulary
            if vocabulary is not None:
                logits = logits[:, vocabulary]
            if allowed is not None:
                blocked = torch.from_numpy(~allowed).to(logits.device)
                logits = logits.float().masked_fill(blocked, BLOCKED_LOGIT)
            log_probs = torch.log_softmax(logits.float(), -1)
            top, ids = log_probs.topk(min(TOP_K, log_probs.shape[-1]))
            if vocabulary is not None:
                ids = vocabulary[ids]
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            return Predictions(ids.cpu().numpy(), top.exp().cpu().numpy(), entropy.cpu().numpy())

    def _own(self, kv: KVCache) -> TorchKVCache:
        if not isinstance(kv, TorchKVCache):
            raise TypeError(f"kv belongs to another runtime: {type(kv).__name__}")
        return kv


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 on CUDA; on a CPU the one of bf16 and fp32 that multiplies a layer's matrix faster."""
    if device.type == "cuda":
        return torch.bfloat16
    if not has_bf16_arithmetic():
        return torch.float32
    seconds = {dtype: _layer_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def has_bf16_arithmetic() -> bool:
    """Whether this CPU has bf16 instructions. Without them bf16 is very slow in torch."""
    checks: list[Callable[[], bool]] = []
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        check = getattr(torch.cpu, name, None) or getattr(torch._C._cpu, name, None)
        if check is not None:
            checks.append(check)
    return any(check() for check in checks)


def _layer_seconds(dtype: torch.dtype) -> float:
    """The median time of one product of the size of an MLP's, with the rows of a block."""
    x, weight = torch.zeros(12, 576, dtype=dtype), torch.zeros(1536, 576, dtype=dtype)

    def once() -> float:
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        return time.perf_counter() - began

    with torch.inference_mode():
        return median(sorted(once() for _ in range(30))[:15])
