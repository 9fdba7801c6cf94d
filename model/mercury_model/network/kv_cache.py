"""Exact keys and values of a causal context, in torch: grown, truncated, copied."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mercury_model.runtime.limits import kv_capacity
from mercury_model.spec.model_config import ModelConfig


class TorchKVCache:
    """Keys and values of all layers in one buffer [layers, 2, G, capacity, W].

    `append` writes new rows behind the context without making them part of it; `advance` does
    that. So a block can be run, and run again, over the same context without a copy.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._buffer = torch.empty(
            (config.num_layers, 2, config.num_kv_heads, kv_capacity(0), config.head_dim),
            dtype=dtype,
            device=device,
        )
        self._length = 0

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, room to grow included."""
        return self._buffer.nbytes

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on."""
        self._length = min(self._length, length)

    def fork(self, length: int) -> "TorchKVCache":
        """An independent copy of the first `length` tokens."""
        copy = object.__new__(TorchKVCache)
        copy._buffer = self._buffer.clone()
        copy._length = min(self._length, length)
        return copy

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more tokens."""
        shape = list(self._buffer.shape)
        needed = self._length + rows
        if needed <= shape[3]:
            return
        shape[3] = kv_capacity(needed)
        grown = self._buffer.new_empty(shape)
        grown[..., : self._length, :] = self._buffer[..., : self._length, :]
        self._buffer = grown

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `attention.KVStore`; B is 1, and `reserve` has made room."""
        return self.put(layer, self._length, keys, values)

    def put(self, layer: int, at: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same from position `at` on; returns the rows of the context, and of what is new."""
        stop = at + keys.shape[2]
        end = max(self._length, stop)
        mine = self._buffer[layer]
        mine[0, :, at:stop] = keys[0]
        mine[1, :, at:stop] = values[0]
        return mine[None, 0, :, :end], mine[None, 1, :, :end]

    def advance(self, rows: int) -> None:
        """Make the last `rows` appended tokens part of the context."""
        self._length += rows


class KVSlice:
    """A context as a `attention.KVStore` whose new rows are those from position `at` on: they take
    the place of what is there. `reserve` has made room for those beyond its end.
    """

    def __init__(self, kv: TorchKVCache, at: int) -> None:
        self._kv = kv
        self._at = at

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `attention.KVStore`; returns the rows behind the new ones, too."""
        return self._kv.put(layer, self._at, keys, values)


class BatchedKV:
    """Several contexts as one `attention.KVStore`: their keys one after the other."""

    def __init__(self, kvs: Sequence[TorchKVCache], rows: list[int]) -> None:
        self._kvs = kvs
        self._rows = rows

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `attention.KVStore`; of the new rows, each context gets its own."""
        new = zip(
            self._kvs,
            torch.split(keys, self._rows, 2),
            torch.split(values, self._rows, 2),
            strict=True,
        )
        all_keys, all_values = zip(*(kv.append(layer, k, v) for kv, k, v in new), strict=True)
        return torch.cat(all_keys, 2), torch.cat(all_values, 2)
