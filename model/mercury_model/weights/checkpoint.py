"""Weights from files to one set of named tensors: a base, and the deltas that are added to it.

Every architecture ends up under the same names: `embedding`, `norm`, `head` (if it is not tied),
and for each layer i `layers.{i}.{q|k|v|o|g|u|d}`, `.attention_norm`, `.mlp_norm`, where the family
has them `.{q|k|v}.bias` and `.{q|k}_norm`, and gated adapters `.{q|…|d}.mask_a` and `.mask_b`;
`vocabulary`, ascending ids in int32, if these alone are ever predicted.
Matrices are [out, in], as torch and safetensors have them. No torch, no network, no pickles.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mercury_model.errors import WeightsCorrupted, WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights import tensor_file as files

Tensors: TypeAlias = dict[str, NDArray[np.float32]]

_GGUF_LAYER = {
    "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o",
    "ffn_gate": "g", "ffn_up": "u", "ffn_down": "d",
    "attn_norm": "attention_norm", "ffn_norm": "mlp_norm",
}  # fmt: skip
_GGUF_TOP = {"token_embd": "embedding", "output_norm": "norm", "output": "head"}


def check(path: Path, sha256: str) -> None:
    """Raise WeightsCorrupted unless `path` has this hash."""
    if files.sha256(path) != sha256:
        raise WeightsCorrupted(
            f"{path} is damaged or was altered: its hash is not the published one.",
            "Delete it, then run: mercury-lsp models pull.",
        )


def read_gguf(path: Path) -> tuple[ModelConfig, Tensors]:
    """A Llama-shaped GGUF file, dequantised to fp32.

    Raises WeightsUnsupported for another architecture or a quantisation that cannot be read.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, OSError) as error:
        raise WeightsCorrupted(
            f"{path} is not a whole GGUF file ({error}).",
            "Delete it, then run: mercury-lsp models pull.",
        ) from error
    fields = {name: field.contents() for name, field in reader.fields.items() if _small(name)}
    config = _gguf_config(path, fields, {tensor.name for tensor in reader.tensors})
    result: Tensors = {}
    for tensor in reader.tensors:
        values = np.require(dequantize(tensor.data, tensor.tensor_type), np.float32, ["W"])
        name = _gguf_name(tensor.name)
        if name.endswith(".q"):
            values = _untangle(values, config.num_heads)
        elif name.endswith(".k"):
            values = _untangle(values, config.num_kv_heads)
        result[name] = values
    return config, result


def _small(field: str) -> bool:
    return field.startswith(("general.architecture", "llama."))


def _gguf_config(path: Path, fields: Mapping[str, Any], names: set[str]) -> ModelConfig:
    if fields.get("general.architecture") != "llama":
        raise WeightsUnsupported(
            f"{path} holds a network of the kind {fields.get('general.architecture')}.",
            "Only Llama-shaped GGUF files can be read.",
        )
    heads, width = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    return ModelConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=width,
        num_layers=fields["llama.block_count"],
        num_heads=heads,
        num_kv_heads=fields["llama.attention.head_count_kv"],
        head_dim=fields.get("llama.attention.key_length", width // heads),
        intermediate_size=fields["llama.feed_forward_length"],
        rope_theta=float(fields["llama.rope.freq_base"]),
        rms_norm_eps=round(float(fields["llama.attention.layer_norm_rms_epsilon"]), 12),
        tie_word_embeddings="output.weight" not in names,
    )


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _GGUF_TOP:
        return _GGUF_TOP[stem]
    _, index, part = stem.split(".")
    return f"layers.{index}.{_GGUF_LAYER[part]}"


def _untangle(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo ggml's order of the rows of Q and K, which interleaves the halves of each head."""
    per_head = rows.shape[0] // heads
    paired = rows.reshape(heads, per_head // 2, 2, -1)
    return paired.swapaxes(1, 2).reshape(rows.shape)


def read_delta(path: Path) -> Tensors:
    """The tensors of a delta in fp32, ids apart.

    int8 tensors have their scales beside them: `x` [rows, columns] and `x.scale` [rows].
    """
    stored = files.read(path).tensors
    result: Tensors = {}
    for name, values in stored.items():
        if name.endswith(".scale"):
            continue
        wide = values if values.dtype == np.int32 else values.astype(np.float32)
        if values.dtype == np.int8:
            wide *= stored[f"{name}.scale"].astype(np.float32)[:, None]
        result[name] = wide
    return result


def merge(base: Tensors, deltas: Iterable[Mapping[str, NDArray[np.float32]]]) -> Tensors:
    """`base` with each delta added in turn; `base` itself is left alone.

    A delta holds low-rank pairs `x.a` [rank, in] and `x.b` [out, rank], which add b a to matrix x;
    `special` [n, width], which is added to the first n rows of the embedding; gated adapters and
    a vocabulary, which are taken over as they are, the last delta's in place of those before.
    """
    merged = dict(base)
    for delta in deltas:
        for name, values in delta.items():
            if name == "special":
                embedding = merged["embedding"].copy()
                embedding[: len(values)] += values
                merged["embedding"] = embedding
            elif name == "vocabulary" or name.endswith((".mask_a", ".mask_b")):
                merged[name] = values
            elif name.endswith(".b"):
                target = name.removesuffix(".b")
                merged[target] = merged[target] + values @ delta[f"{target}.a"]
    merged.update(_idle_gates(merged))
    return merged


def _idle_gates(tensors: Tensors) -> Tensors:
    """Zeros for matrices without a gated adapter where others have one: all alike is faster."""
    rank = next((len(values) for name, values in tensors.items() if name.endswith(".mask_a")), 0)
    idle: Tensors = {}
    for name, matrix in tensors.items() if rank else ():
        part = name.rsplit(".", 1)[-1]
        if part in _GGUF_LAYER.values() and matrix.ndim == 2 and f"{name}.mask_a" not in tensors:
            idle[f"{name}.mask_a"] = np.zeros((rank, matrix.shape[1]), np.float32)
            idle[f"{name}.mask_b"] = np.zeros((matrix.shape[0], rank), np.float32)
    return idle


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
    result: Tensors = {}
    for shard in shards:
        for name, values in files.read(shard).tensors.items():
            ours = rename(name)
            if ours is not None:
                result[ours] = values.astype(np.float32)
    return result
