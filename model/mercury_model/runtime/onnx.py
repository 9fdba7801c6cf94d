"""The denoiser on ONNX Runtime: how a server runs on a CPU. Imports no torch.

Keys and values stay where they are: the graph writes those of its rows into the buffers of the
context, behind it, and they count from then on only if the rows extend it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mercury_model.config import ModelConfig
from mercury_model.runtime import (
    CHUNK_TOKENS,
    KV,
    POSITIONS,
    TOP_K,
    Predictions,
    room,
)

SPIN_US = 20
"""How long a thread without work looks for more before it sleeps, in microseconds. Sleeping at once
makes a call a quarter slower; longer gains nothing, and costs most where others use the machine."""

HIDDEN = np.float32(-1e9)
"""Added to the score of what a row must not see."""


class OnnxKV:
    """Keys and values of all layers, each in a buffer [1, G, capacity, W] of its own."""

    def __init__(self, config: ModelConfig, tokens: int = 0) -> None:
        self._config = config
        self._length = 0
        self._rows = self._buffers(tokens)
        self._binding: Any = None

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, room to grow included."""
        return int(self._rows.nbytes)

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on."""
        self._length = min(self._length, length)

    def fork(self, length: int) -> "OnnxKV":
        """An independent copy of the first `length` tokens."""
        kept = min(self._length, length)
        copy = OnnxKV(self._config, kept)
        copy._length = kept
        copy._rows[:, :, :, : copy._length] = self._rows[:, :, :, : copy._length]
        return copy

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more tokens."""
        old = self._rows
        needed = self._length + rows
        if needed > old.shape[3]:
            self._rows = self._buffers(needed)
            self._binding = None
            self._rows[:, :, :, : self._length] = old[:, :, :, : self._length]

    def advance(self, rows: int) -> None:
        """Make the `rows` tokens behind the context part of it."""
        self._length += rows

    def bind(self, session: ort.InferenceSession) -> ort.IOBinding:
        """The inputs and outputs that are the buffers, bound in place; the same until they grow."""
        if self._binding is None:
            self._binding = session.io_binding()
            for index, buffer in enumerate(self._rows):
                value = ort.OrtValue.ortvalue_from_numpy(buffer)
                name = f"{index // 2}.{'kv'[index % 2]}"
                self._binding.bind_ortvalue_input(f"past.{name}", value)
                self._binding.bind_ortvalue_output(f"present.{name}", value)
        return self._binding

    def _buffers(self, tokens: int) -> NDArray[np.float32]:
        c = self._config
        return np.zeros((2 * c.layers, 1, c.kv_heads, room(tokens), c.head_width), np.float32)


class OnnxRuntime:
    """See `mercury_model.runtime.Runtime`.

    `path` is a graph of `mercury_model.runtime.graph` for `config`; `about` is for the name. Rows
    with `mask_id` at the end of what is verified are masks. `options` as of `session_options`.
    """

    def __init__(
        self, path: Path, config: ModelConfig, mask_id: int, about: str, options: ort.SessionOptions
    ) -> None:
        self._config = config
        self._mask_id = mask_id
        self._name = f"onnx cpu {about}, {options.intra_op_num_threads} threads"
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @property
    def config(self) -> ModelConfig:
        """The architecture that runs."""
        return self._config

    @property
    def name(self) -> str:
        """For logs and `doctor`."""
        return self._name

    def new_kv(self) -> KV:
        """An empty context."""
        return OnnxKV(self._config)

    def extend(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """Append at most CHUNK_TOKENS tokens causally; predicts (R = 1) what follows the last."""
        own = _own(kv)
        result = self._run(own, ids, len(ids), first=len(ids) - 1)
        own.advance(len(ids))
        return result

    def verify(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """`extend`, predicting what follows each; masks at the end do not become part of `kv`."""
        own = _own(kv)
        tokens = len(ids)
        while tokens and ids[tokens - 1] == self._mask_id:
            tokens -= 1
        result = self._run(own, ids, tokens)
        own.advance(tokens)
        return result

    def denoise(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """Run a block that sees the context and, in both directions, itself."""
        return self._run(_own(kv), ids, 0)

    def _run(self, kv: OnnxKV, ids: Sequence[int], tokens: int, first: int = 0) -> Predictions:
        """Predictions for the rows from `first` on; see `attend` for `tokens`."""
        if not 1 <= len(ids) <= CHUNK_TOKENS:
            raise ValueError(f"a chunk has 1 to {CHUNK_TOKENS} tokens, not {len(ids)}")
        if kv.length + len(ids) >= POSITIONS:
            raise ValueError(f"a context has less than {POSITIONS} tokens")
        predicted = np.arange(first, len(ids))
        if len(ids) == 1:
            # One row alone takes another path through matrix products, with sums in another
            # order; beside a second row it comes out the same as in any chunk, to the last bit.
            ids, tokens = [ids[0], ids[0]], 1
        kv.reserve(len(ids))
        total = kv.length + len(ids)
        shape = (1, len(predicted), min(TOP_K, self._config.vocab_size))
        top, probs = np.empty(shape, np.int64), np.empty(shape, np.float32)
        entropy = np.empty(shape[:2], np.float32)
        inputs: dict[str, NDArray[Any]] = {
            "ids": np.array([ids], np.int64),
            "predicted": predicted,
            "attend": attend(kv.length, len(ids), tokens),
            "last": np.array([total - 1], np.int32),
            "total": np.array([total], np.int32),
        }
        binding = kv.bind(self._session)
        for name, values in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values))
        for name, result in {"top": top, "probs": probs, "entropy": entropy}.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(result))
        self._session.run_with_iobinding(binding)
        return Predictions(top[0], probs[0], entropy[0])


def attend(before: int, rows: int, tokens: int) -> NDArray[np.float32]:
    """[1, 1, rows, before + rows]: 0 where a row sees a key, HIDDEN elsewhere.

    The first `tokens` rows see what is before them and themselves, the others see everything.
    """
    seen = np.zeros((1, 1, rows, before + rows), np.float32)
    for row in range(tokens):
        seen[0, 0, row, before + row + 1 :] = HIDDEN
    return seen


def session_options(threads: int, spin_us: int = SPIN_US) -> ort.SessionOptions:
    """One operation at a time, on `threads` threads, which sleep between calls.

    Within a call a thread without work looks for more during `spin_us` microseconds.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The graph is written as it should run, and its shapes change with every token.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_us else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return options


def _own(kv: KV) -> OnnxKV:
    if not isinstance(kv, OnnxKV):
        raise TypeError(f"kv belongs to another runtime: {type(kv).__name__}")
    return kv
