"""Exact keys and values of a causal context, in torch: grown, truncated, copied."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mercury_model.config import ModelConfig
from mercury_model.runtime import room


class TorchKV:
    """Keys and values of all layers in one buffer [layers, 2, G, capacity, W].

    `append` writes new rows behind the context without making them part of it; `advance` does
    that. So a block can be run, and run again, over the same context without a copy.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._buffer = torch.empty(
            (config.layers, 2, config.kv_heads, room(0), config.head_width),
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

    def fork(self, length: int) -> "TorchKV":
        """An independent copy of the first `length` tokens."""
        copy = object.__new__(TorchKV)
        copy._buffer = self._buffer.clone()
        copy._length = min(self._length, length)
        return copy

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more tokens."""
        shape = list(self._buffer.shape)
        needed = self._length + rows
        if needed <= shape[3]:
            return
        shape[3] = room(needed)
        grown = self._buffer.new_empty(shape)
        grown[..., : self._length, :] = self._buffer[..., : self._length, :]
        self._buffer = grown

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `transformer.Memory`; B is 1, and `reserve` has made room."""
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


class Within:
    """A context as a `transformer.Memory` whose new rows are those from position `at` on: they take
    the place of what is there. `reserve` has made room for those beyond its end.
    """

    def __init__(self, kv: TorchKV, at: int) -> None:
        self._kv = kv
        self._at = at

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `transformer.Memory`; returns the rows behind the new ones, too."""
        return self._kv.put(layer, self._at, keys, values)


class Beside:
    """Several contexts as one `transformer.Memory`: their keys one after the other."""

    def __init__(self, kvs: Sequence[TorchKV], rows: list[int]) -> None:
        self._kvs = kvs
        self._rows = rows

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `transformer.Memory`; of the new rows, each context gets its own."""
        new = zip(
            self._kvs,
            torch.split(keys, self._rows, 2),
            torch.split(values, self._rows, 2),
            strict=True,
        )
        all_keys, all_values = zip(*(kv.append(layer, k, v) for kv, k, v in new), strict=True)
        return torch.cat(all_keys, 2), torch.cat(all_values, 2)
