"""GGUF files: metadata, and tensors that are dequantised one at a time when they are asked for.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little
endian. Nothing in it can be executed. Names and conventions of the architectures are data in
`families`.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercury_model.errors import WeightsCorrupted, WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig
from mercury_model.spec.tokenizer import BytePairVocabulary
from mercury_model.weights.checkpoint import tensor_shapes
from mercury_model.weights.families import GGUF_FAMILIES, Family

_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_NORMAL = 1
"""The `token_type` of text; marks and unused ids have others."""

_ROWS_AT_A_TIME = 1024
"""The library's dequantisation takes several times the memory of its result."""

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_WEIGHT = {"embedding": "token_embd.weight", "head": "output.weight"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of the file: `shape` as numpy has it, ggml's number of its type, its first byte."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """An open file: its metadata by key, and where its tensors are."""

    path: Path
    metadata: Mapping[str, Any]
    infos: Mapping[str, TensorInfo]

    def config(self, *, tied: bool | None = None) -> ModelConfig:
        """The architecture.

        `tied`: whether input and output share one embedding; unless given, that is so if the file
        has one only. Raises WeightsUnsupported for an architecture that no family describes.
        """
        family, kind = _family(self), self.metadata["general.architecture"]

        def get(key: str, default: Any = None) -> Any:
            found = self.metadata.get(f"{kind}.{key}", default)
            if found is None:
                raise _corrupted(self.path, f"{kind}.{key} is missing")
            return found

        heads, size = get("attention.head_count"), get("embedding_length")
        if tied is None:
            tied = _WEIGHT["head"] not in self.infos
        return ModelConfig(
            vocab_size=self._info(_WEIGHT["embedding"]).shape[0],
            hidden_size=size,
            num_layers=get("block_count"),
            num_heads=heads,
            num_kv_heads=get("attention.head_count_kv", heads),
            head_dim=get("attention.key_length", size // heads),
            intermediate_size=get("feed_forward_length"),
            rope_theta=float(get("rope.freq_base", 10_000.0)),
            rms_norm_eps=round(float(get("attention.layer_norm_rms_epsilon")), 12),
            tie_word_embeddings=tied,
            qkv_bias=family.qkv_bias,
            qk_norm=family.qk_norm,
        )

    def vocabulary(self) -> BytePairVocabulary:
        """The tokenizer in the metadata. Raises WeightsUnsupported if it is not byte-level BPE."""
        kind = self.metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise WeightsUnsupported(
                f"{self.path} has a tokenizer of the kind {kind}, not byte-level BPE.",
                "Put a tokenizer.json beside the weights.",
            )
        try:
            tokens = self.metadata["tokenizer.ggml.tokens"]
            types = self.metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
            text = [t if k == _NORMAL else None for t, k in zip(tokens, types, strict=True)]
            merges = self.metadata["tokenizer.ggml.merges"]
        except (KeyError, ValueError) as error:
            raise _corrupted(self.path, f"its tokenizer is not whole: {error}") from error
        return BytePairVocabulary(text, merges, self.metadata.get("tokenizer.ggml.pre", "gpt-2"))

    def dequantized(self, name: str) -> NDArray[np.float32]:
        """A tensor by its name in the file, in fp32 [out, in]; the array is the caller's.

        Raises WeightsUnsupported for a quantisation that cannot be read.
        """
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        info = self._info(name)
        try:
            kind = GGMLQuantizationType(info.kind)
            block, size = GGML_QUANT_SIZES[kind]
            row = info.shape[-1] // block * size
            count = int(np.prod(info.shape[:-1])) * row
            # Read, not mapped: the pages of a map would stay with the process.
            stored = np.fromfile(self.path, np.uint8, count, offset=info.start)
            if stored.size < count:
                raise _corrupted(self.path, f"it ends before {name} does")
            raw = stored.reshape(-1, row)
            values = np.empty((len(raw), info.shape[-1]), np.float32)
            for start in range(0, len(raw), _ROWS_AT_A_TIME):
                rows = slice(start, start + _ROWS_AT_A_TIME)
                values[rows] = dequantize(raw[rows], kind)
        except (ValueError, KeyError, NotImplementedError) as error:
            named = kind.name if "kind" in locals() else f"number {info.kind}"
            raise WeightsUnsupported(
                f"{name} in {self.path} is quantised as {named}, which cannot be read here.",
                "Take a file with Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, a K quantisation, F16 or F32.",
            ) from error
        return values.reshape(info.shape)

    def _info(self, name: str) -> TensorInfo:
        if name not in self.infos:
            raise _corrupted(self.path, f"{name} is missing")
        return self.infos[name]


class GgufTensors(Mapping[str, NDArray[np.float32]]):
    """The tensors of a file under our names (see `checkpoint`), each dequantised when asked for.

    Nothing is kept: ask for each once. Where the network is tied (`config`) and the file has both
    ends, both are `output`, the finer of the two. Raises WeightsCorrupted if a tensor is missing.
    """

    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file = file
        self._heads = {"q": config.num_heads, "k": config.num_kv_heads}
        self._family = _family(file)
        self._names = {
            ours: theirs
            for theirs in file.infos
            if (ours := self._family.rename(theirs)) is not None
        }
        if config.tie_word_embeddings and "head" in self._names:
            self._names["embedding"] = self._names.pop("head")
        missing = sorted(tensor_shapes(config).keys() - self._names.keys())
        if missing:
            raise _corrupted(file.path, f"{missing[0]} is missing")

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        values = self._file.dequantized(self._names[name])
        part = name.removesuffix(".bias").rpartition(".")[2]
        if self._family.interleaved and part in self._heads:
            return _split_halves(values, self._heads[part])
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_gguf(path: Path) -> GgufFile:
    """Read the metadata of a file; no tensor is touched.

    Raises WeightsCorrupted if it is no whole GGUF file, WeightsUnsupported for another version.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer,
        ):
            if buffer[:4] != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            reader = _Reader(buffer)
            version = reader.scalar("<I")
            if version not in _VERSIONS:
                raise WeightsUnsupported(
                    f"{path} is a GGUF file of version {version}.",
                    "Versions 2 and 3, little endian, can be read; convert it.",
                )
            tensors, entries = reader.scalar("<Q"), reader.scalar("<Q")
            metadata = {reader.string(): reader.value() for _ in range(entries)}
            found = [reader.tensor() for _ in range(tensors)]
    except (struct.error, UnicodeDecodeError, KeyError, ValueError, MemoryError) as error:
        raise _corrupted(path, str(error)) from error
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-reader.at // alignment) * alignment
    infos = {name: TensorInfo(shape, kind, start + at) for name, shape, kind, at in found}
    return GgufFile(path, metadata, infos)


class _Reader:
    """Reads values one after the other; `at` is the next byte. Raises struct.error at the end."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self._buffer = buffer
        self.at = 4

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(code, self._buffer, self.at)
        self.at += struct.calcsize(code)
        return value

    def string(self) -> str:
        size = self.scalar("<Q")
        begin, self.at = self.at, self.at + size
        if self.at > len(self._buffer):
            raise ValueError("the file is truncated")
        return str(self._buffer[begin : self.at], "utf-8")

    def value(self, kind: int | None = None) -> Any:
        kind = self.scalar("<I") if kind is None else kind
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if count > len(self._buffer):
            raise ValueError("an array is longer than the file")
        if inner not in _SCALARS:
            return [self.value(inner) for _ in range(count)]
        code = f"<{count}{_SCALARS[inner][1]}"
        values = struct.unpack_from(code, self._buffer, self.at)
        self.at += struct.calcsize(code)
        return list(values)

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape with the fastest axis last, type and offset."""
        name, dimensions = self.string(), self.scalar("<I")
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        sizes = [self.scalar("<Q") for _ in range(dimensions)]
        return name, tuple(reversed(sizes)), self.scalar("<I"), self.scalar("<Q")


def _family(file: GgufFile) -> Family:
    kind = str(file.metadata.get("general.architecture"))
    if kind not in GGUF_FAMILIES:
        raise WeightsUnsupported(
            f"{file.path} holds a network of the kind {kind}.",
            f"Known kinds of GGUF files: {', '.join(GGUF_FAMILIES)}.",
        )
    return GGUF_FAMILIES[kind]


def _split_halves(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo ggml's order of the rows of Q and K, which interleaves the halves of each head."""
    per_head = rows.shape[0] // heads
    paired = rows.reshape(heads, per_head // 2, 2, -1)
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _corrupted(path: Path, why: str) -> WeightsCorrupted:
    return WeightsCorrupted(
        f"{path} is not a whole GGUF file ({why}).",
        "Delete it, then run: mercury-lsp models pull.",
    )
