"""The denoiser on ONNX Runtime: how a server runs on a CPU. Imports no torch.

Keys and values stay where they are: the graph writes those of its rows into the buffers of the
context, behind it, and they count from then on only if the rows extend it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercury_model.runtime.limits import MAX_POSITIONS, TOP_K, kv_capacity
from mercury_model.runtime.onnx.files import (
    GATED,
    MAX_BATCH_SIZE,
    VOCABULARY,
    graph_files,
    read_ids,
)
from mercury_model.runtime.onnx.ort import ort
from mercury_model.runtime.protocol import (
    ForwardCall,
    KVCache,
    Predictions,
    SingleCalls,
    check_batch,
    count_before_masks,
    restriction,
    split_predictions,
)
from mercury_model.spec.model_config import ModelConfig

SPIN_US = 100
"""How long an idle thread spins before it sleeps, in microseconds. Without spinning a call is a
quarter slower. With 20 it is another quarter slower after a pause, when threads take longest to
wake, and most calls come after a pause. More gains nothing, and slows other programs down."""

MASKED_SCORE = np.float32(-1e9)
"""Added to the attention score of a key that a row must not see."""

UNRESTRICTED = np.array([[True]])
"""The graph's input `allowed` if no row is restricted."""

DUPLICATED_ROW = (False, True)
"""`whole` for a single row that runs twice: the second copy sees the context and both copies."""


class OnnxKVCache:
    """Keys and values of all layers, each in a buffer [1, G, capacity, W] of its own."""

    def __init__(self, config: ModelConfig, tokens: int = 0) -> None:
        self._config = config
        self._length = 0
        self._rows = self._buffers(tokens)
        self._values: Mapping[str, ort.OrtValue] | None = None

    @property
    def length(self) -> int:
        """See `KVCache`."""
        return self._length

    @property
    def nbytes(self) -> int:
        """See `KVCache`; spare capacity counts."""
        return int(self._rows.nbytes)

    def truncate(self, length: int) -> None:
        """See `KVCache`."""
        self._length = min(self._length, length)

    def fork(self, length: int) -> "OnnxKVCache":
        """See `KVCache`."""
        length = min(self._length, length)
        copy = OnnxKVCache(self._config, length)
        copy._length = length
        copy._rows[:, :, :, : copy._length] = self._rows[:, :, :, : copy._length]
        return copy

    def reserve(self, rows: int) -> None:
        """See `KVCache`."""
        old = self._rows
        needed = self._length + rows
        if needed > old.shape[3]:
            self._rows = self._buffers(needed)
            self._values = None
            self._rows[:, :, :, : self._length] = old[:, :, :, : self._length]

    def advance(self, rows: int) -> None:
        """Add the `rows` tokens that the last pass wrote after the context to it."""
        self._length += rows

    @property
    def values(self) -> Mapping[str, ort.OrtValue]:
        """The buffers by the names of the graph, `{layer}.{k|v}`; the same until they grow."""
        if self._values is None:
            self._values = {
                f"{index // 2}.{'kv'[index % 2]}": ort.OrtValue.ortvalue_from_numpy(buffer)
                for index, buffer in enumerate(self._rows)
            }
        return self._values

    def _buffers(self, tokens: int) -> NDArray[np.float32]:
        c = self._config
        return np.zeros(
            (2 * c.num_layers, 1, c.num_kv_heads, kv_capacity(tokens), c.head_dim), np.float32
        )


class _Graph:
    """A loaded graph of `mercury_model.runtime.onnx.graph`, and the buffers bound to its slots."""

    def __init__(self, path: Path, options: ort.SessionOptions, max_batch_size: int) -> None:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._session = session
        self._binding = session.io_binding()
        self._bound: list[Mapping[str, ort.OrtValue] | None] = [None] * max_batch_size

    @property
    def gated(self) -> bool:
        """Whether adapters act on masks alone, so that tokens see no masks (see `GATED`)."""
        return GATED in self._metadata

    @property
    def vocabulary(self) -> NDArray[np.int64] | None:
        """The ids that it can predict, ascending; None if it can predict all."""
        return read_ids(self._metadata[VOCABULARY]) if VOCABULARY in self._metadata else None

    @property
    def _metadata(self) -> Mapping[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def bind(self, slot: int, values: Mapping[str, ort.OrtValue]) -> None:
        """Bind the buffers of a context to a slot, which reads and writes them in place."""
        if self._bound[slot] is not values:
            for name, value in values.items():
                self._binding.bind_ortvalue_input(f"past.{slot}.{name}", value)
                self._binding.bind_ortvalue_output(f"present.{slot}.{name}", value)
            self._bound[slot] = values

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Run the graph on `inputs` and the bound contexts; fills `outputs`."""
        for name, values in inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values))
        for name, values in outputs.items():
            self._binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(values))
        self._session.run_with_iobinding(self._binding)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one call in a pass.

    A row that is True in `whole` sees every row. The others see the context and the rows up to
    their own that are not `whole`. The rows from `first` on are predicted; the first `stay` rows
    become part of the context.
    """

    kv: OnnxKVCache
    ids: Sequence[int]
    whole: Sequence[bool]
    first: int
    stay: int

    def advance(self) -> None:
        """Extend the context after the pass."""
        self.kv.advance(self.stay)


class OnnxRuntime(SingleCalls):
    """The denoiser in ONNX Runtime on a CPU; implements `Runtime`.

    `path` is a graph of `mercury_model.runtime.onnx.graph` for `config`, whose masks are `mask_id`;
    `about` becomes part of the name; `options` are made by `session_options`. The graph for several
    calls is loaded at the first pass with more than one.
    """

    def __init__(
        self, path: Path, config: ModelConfig, mask_id: int, about: str, options: ort.SessionOptions
    ) -> None:
        self._config = config
        self._mask_id = mask_id
        self._name = f"onnx cpu {about}, {options.intra_op_num_threads} threads"
        self._path = path
        self._options = options
        self._one = _Graph(path, options, max_batch_size=1)
        self._gated = self._one.gated
        self._vocabulary = self._one.vocabulary

    @property
    def config(self) -> ModelConfig:
        """See `Runtime`."""
        return self._config

    @property
    def vocabulary(self) -> NDArray[np.int64] | None:
        """See `Runtime`."""
        return self._vocabulary

    @property
    def name(self) -> str:
        """See `Runtime`."""
        return self._name

    @property
    def max_batch_size(self) -> int:
        """See `Runtime`."""
        return MAX_BATCH_SIZE

    def new_kv_cache(self) -> KVCache:
        """See `Runtime`."""
        return OnnxKVCache(self._config)

    def kv_bytes(self, tokens: int) -> int:
        """See `Runtime`."""
        return kv_capacity(tokens) * self._config.kv_bytes_per_token

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """See `Runtime`. Results equal those of the calls alone to the last bit."""
        check_batch(calls, MAX_BATCH_SIZE, self._config.vocab_size)
        allowed = restriction(calls, self._vocabulary)
        if allowed is None:
            allowed = UNRESTRICTED
        rows = [self._rows(call) for call in calls]
        return self._shared(rows, allowed) if len(rows) > 1 else [self._alone(rows[0], allowed)]

    def _rows(self, call: ForwardCall) -> _Rows:
        """Raise ValueError for a context that is too long, TypeError for another runtime's."""
        kv, count = call.kv, len(call.ids)
        if not isinstance(kv, OnnxKVCache):
            raise TypeError(f"kv belongs to another runtime: {type(kv).__name__}")
        if kv.length + count >= MAX_POSITIONS:
            raise ValueError(f"a context has less than {MAX_POSITIONS} tokens")
        masks = [token == self._mask_id for token in call.ids]
        if call.kind == "extend":
            return _Rows(kv, call.ids, [False] * count, call.predicted, count)
        if call.kind == "verify":
            return _Rows(
                kv, call.ids, masks, call.predicted, count_before_masks(call.ids, self._mask_id)
            )
        return _Rows(kv, call.ids, masks if self._gated else [True] * count, call.predicted, 0)

    def _alone(self, rows: _Rows, allowed: NDArray[np.bool_]) -> Predictions:
        # A single row takes another path through the matrix products, with sums in another order.
        # With a second row it equals the same row of any chunk to the last bit.
        ids, whole = (
            (rows.ids, rows.whole) if len(rows.ids) > 1 else (list(rows.ids) * 2, DUPLICATED_ROW)
        )
        predicted = np.arange(rows.first, len(rows.ids))
        inputs: dict[str, NDArray[Any]] = {
            "ids": np.array([ids], np.int64),
            "predicted": predicted,
            "allowed": allowed,
        }
        inputs |= self._bound_inputs(self._one, 0, rows.kv, whole)
        outputs = self._outputs(len(predicted))
        self._one.run(inputs, outputs)
        rows.advance()
        return _predictions(outputs)

    def _shared(self, parts: Sequence[_Rows], allowed: NDArray[np.bool_]) -> list[Predictions]:
        ends = np.cumsum([len(part.ids) for part in parts])
        ids: list[int] = []
        predicted, back = [], []
        inputs: dict[str, NDArray[Any]] = {"allowed": allowed}
        attending = 0
        for slot, (part, end) in enumerate(zip(parts, ends, strict=True)):
            begin, count = int(end) - len(part.ids), len(part.ids)
            ids += part.ids
            predicted.append(np.arange(begin + part.first, end))
            back.append(np.arange(attending, attending + count))
            # A single row attends twice, for the same reason as in `_alone`.
            mine = np.arange(begin, end) if count > 1 else np.array([begin, begin])
            inputs[f"rows.{slot}"] = mine
            inputs |= self._bound_inputs(
                self._many, slot, part.kv, part.whole if count > 1 else DUPLICATED_ROW
            )
            attending += len(mine)
        for slot in range(
            len(parts), MAX_BATCH_SIZE
        ):  # the graph needs inputs for unused slots too
            inputs[f"rows.{slot}"] = np.array([0, 0])
            inputs |= self._bound_inputs(self._many, slot, self._unused, DUPLICATED_ROW)
        inputs["ids"] = np.array([ids], np.int64)
        inputs["predicted"] = np.concatenate(predicted)
        inputs["back"] = np.concatenate(back)
        outputs = self._outputs(len(inputs["predicted"]))
        self._many.run(inputs, outputs)
        for part in parts:
            part.advance()
        rows = [len(part.ids) - part.first for part in parts]
        return split_predictions(_predictions(outputs), rows)

    def _bound_inputs(
        self, graph: _Graph, slot: int, kv: OnnxKVCache, whole: Sequence[bool]
    ) -> dict[str, NDArray[Any]]:
        """Bind `kv` to a slot; returns the other inputs of the slot."""
        kv.reserve(len(whole))
        graph.bind(slot, kv.values)
        total = kv.length + len(whole)
        return {
            f"attend.{slot}": attention_bias(kv.length, whole),
            f"last.{slot}": np.array([total - 1], np.int32),
            f"total.{slot}": np.array([total], np.int32),
        }

    def _outputs(self, predicted: int) -> dict[str, NDArray[Any]]:
        shape = (1, predicted, min(TOP_K, self._config.vocab_size))
        return {
            "top": np.empty(shape, np.int64),
            "probs": np.empty(shape, np.float32),
            "entropy": np.empty(shape[:2], np.float32),
        }

    @cached_property
    def _many(self) -> _Graph:
        return _Graph(graph_files(self._path)[1], self._options, MAX_BATCH_SIZE)

    @cached_property
    def _unused(self) -> OnnxKVCache:
        """An empty context for unused slots."""
        return OnnxKVCache(self._config)


def _predictions(outputs: Mapping[str, NDArray[Any]]) -> Predictions:
    return Predictions(*(outputs[name][0] for name in ("top", "probs", "entropy")))


def attention_bias(before: int, whole: Sequence[bool]) -> NDArray[np.float32]:
    """[1, 1, R, before + R]: 0 where a row sees a key, MASKED_SCORE elsewhere.

    Rows that are `whole` see everything, the others the rows up to their own that are not `whole`.
    """
    everything = np.array(whole, np.bool_)
    causal = np.tri(len(whole), dtype=np.bool_) & ~everything
    seen = np.zeros((1, 1, len(whole), before + len(whole)), np.float32)
    seen[0, 0, :, before:][~(causal | everything[:, None])] = MASKED_SCORE
    return seen


def session_options(threads: int, spin_us: int = SPIN_US) -> ort.SessionOptions:
    """Options for one operation at a time on `threads` threads, which sleep between calls.

    Within a call an idle thread spins for `spin_us` microseconds.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The graph needs no optimization, and its shapes change with every token.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return options
