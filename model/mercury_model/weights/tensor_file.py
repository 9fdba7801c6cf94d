"""Tensors in safetensors files, as numpy arrays, memory-mapped; hashes; atomic writing.

numpy has no bf16, so that is widened to fp32 on reading. Nothing here can execute what it reads:
a header of JSON, then raw numbers (https://huggingface.co/docs/safetensors).
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mercury_model.errors import WeightsCorrupted

_MAX_HEADER_BYTES = 64 << 20
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I8": "|i1", "U8": "|u1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The tensors of a file, and the strings of its header. bf16 is fp32 here."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def read(path: Path) -> TensorFile:
    """Map `path` into memory. Raises WeightsCorrupted when it is truncated or not safetensors."""
    try:
        raw = np.memmap(path, np.uint8, mode="c")
        size = int(raw[:8].view("<u8")[0])
        if size > min(_MAX_HEADER_BYTES, raw.size - 8):
            raise ValueError("the header is longer than the file")
        header = json.loads(raw[8 : 8 + size].tobytes())
        metadata = header.pop("__metadata__", {})
        body = raw[8 + size :]
        return TensorFile({name: _tensor(body, info) for name, info in header.items()}, metadata)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsCorrupted(
            f"{path} is not a whole safetensors file ({error}).",
            "Delete it, then run: mercury-lsp models pull.",
        ) from error


def _tensor(body: NDArray[np.uint8], info: Mapping[str, Any]) -> NDArray[Any]:
    begin, end = info["data_offsets"]
    if end > body.size:
        raise ValueError("the file is truncated")
    values = body[begin:end].view(_TYPES[info["dtype"]]).reshape(info["shape"])
    if info["dtype"] == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def write(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write `path` as a whole or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    half = Path(name)
    try:
        contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
        save_file(contiguous, half, dict(metadata))
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
