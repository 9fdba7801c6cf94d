"""Weights from files to one set of named tensors: a base, and the deltas that are added to it.

Every architecture ends up under the same names: `embedding`, `norm`, `head` (if it is not tied),
and for each layer i `layers.{i}.{q|k|v|o|g|u|d}`, `.attention_norm`, `.mlp_norm`, where the family
has them `.{q|k|v}.bias` and `.{q|k}_norm`, and gated adapters `.{q|…|d}.mask_a` and `.mask_b`;
`vocabulary`, ascending ids in int32, if these alone are ever predicted.
Matrices are [out, in], as torch and safetensors have them. No torch, no network, no pickles.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mercury_model.errors import WeightsCorrupted, WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights import tensor_file as files

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
"""By name. A mapping may make a tensor when it is asked for: ask for each once."""

_MATRICES = frozenset("qkvogud")


def check(path: Path, sha256: str) -> None:
    """Raise WeightsCorrupted unless `path` has this hash."""
    if files.sha256(path) != sha256:
        raise WeightsCorrupted(
            f"{path} is damaged or was altered: its hash is not the published one.",
            "Delete it, then run: mercury-lsp models pull.",
        )


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that a network must have, by name."""
    width, heads = config.hidden_size, config.head_dim
    layer: dict[str, tuple[int, ...]] = dict(config.projections)
    layer |= {"attention_norm": (width,), "mlp_norm": (width,)}
    layer |= {f"{x}.bias": config.projections[x][:1] for x in "qkv" if config.qkv_bias}
    layer |= {f"{x}_norm": (heads,) for x in "qk" if config.qk_norm}
    ends: dict[str, tuple[int, ...]] = {"embedding": (config.vocab_size, width), "norm": (width,)}
    if not config.tie_word_embeddings:
        ends["head"] = (config.vocab_size, width)
    layers = range(config.num_layers)
    return ends | {f"layers.{i}.{name}": shape for i in layers for name, shape in layer.items()}


def check_vocabulary(tensors: Tensors, config: ModelConfig) -> None:
    """Raise WeightsCorrupted if an id that is to be predicted is outside of the vocabulary."""
    predicted = tensors.get("vocabulary")
    if predicted is not None and not 0 <= predicted.min() <= predicted.max() < config.vocab_size:
        raise WeightsCorrupted(
            f"The weights predict the id {int(predicted.max())}, and the vocabulary has "
            f"{config.vocab_size} tokens.",
            "Fetch them again, or mend the card.",
        )


def read_delta(path: Path) -> Tensors:
    """The tensors of a delta in fp32, ids apart.

    int8 tensors have their scales beside them: `x` [rows, columns] and `x.scale` [rows].
    """
    stored = files.read(path).tensors
    result: dict[str, NDArray[np.float32]] = {}
    for name, values in stored.items():
        if name.endswith(".scale"):
            continue
        wide = values if values.dtype == np.int32 else values.astype(np.float32)
        if values.dtype == np.int8:
            wide *= stored[f"{name}.scale"].astype(np.float32)[:, None]
        result[name] = wide
    return result


def merge(base: Tensors, deltas: Sequence[Tensors]) -> Tensors:
    """`base` with each delta added in turn; `base` itself is left alone.

    A delta holds low-rank pairs `x.a` [rank, in] and `x.b` [out, rank], which add b a to matrix x;
    `special` [n, width], which is added to the first n rows of the embedding; gated adapters and
    a vocabulary, which are taken over as they are, the last delta's in place of those before.
    Each tensor is merged when it is asked for, and not kept.
    """
    return _Merged(base, deltas)


class _Merged(Mapping[str, NDArray[np.float32]]):
    """See `merge`."""

    def __init__(self, base: Tensors, deltas: Sequence[Tensors]) -> None:
        self._base = base
        self._deltas = deltas
        self._taken = {
            name: values
            for delta in deltas
            for name, values in delta.items()
            if name == "vocabulary" or name.endswith((".mask_a", ".mask_b"))
        }
        adapted = [*base, *self._taken]
        self._rank = next(
            (len(values) for name, values in self._taken.items() if name.endswith(".mask_a")), 0
        )
        self._idle = {
            f"{name}.{half}"
            for name in (base if self._rank else ())
            if name.rpartition(".")[2] in _MATRICES and f"{name}.mask_a" not in adapted
            for half in ("mask_a", "mask_b")
        }
        self._names = dict.fromkeys([*adapted, *sorted(self._idle)])

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name in self._taken:
            return self._taken[name]
        if name in self._idle:
            return self._zeros(name)
        values = self._base[name]
        for delta in self._deltas:
            if name == "embedding" and "special" in delta:
                values = values.copy()
                values[: len(delta["special"])] += delta["special"]
            if f"{name}.b" in delta:
                values = values + delta[f"{name}.b"] @ delta[f"{name}.a"]
        return values

    def _zeros(self, name: str) -> NDArray[np.float32]:
        """For a matrix without a gated adapter where others have one: all alike is faster."""
        matrix, _, half = name.rpartition(".")
        rows, columns = self._base[matrix].shape
        shape = (self._rank, columns) if half == "mask_a" else (rows, self._rank)
        return np.zeros(shape, np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_hub(folder: Path, rename: Callable[[str], str | None]) -> Tensors:
    """All safetensors of a hub folder under our names; `rename` gives None for what is not used.

    Raises WeightsUnsupported where there are pickles only: those can execute code.
    """
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise WeightsUnsupported(
            f"{folder} has no safetensors files.",
            "Pickled checkpoints are refused, since loading them runs code; convert them first.",
        )
    result: dict[str, NDArray[np.float32]] = {}
    for shard in shards:
        for name, values in files.read(shard).tensors.items():
            ours = rename(name)
            if ours is not None:
                result[ours] = values.astype(np.float32)
    return result
