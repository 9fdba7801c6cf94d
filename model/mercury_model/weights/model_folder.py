"""A model in a folder: `card.json`, the weights, and `tokenizer.json` unless a GGUF file has it.

Weights are one GGUF file, the safetensors files of a hub folder (with its `config.json`), or
safetensors files under our own names (see `checkpoint`).
"""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

from mercury_model.errors import WeightsCorrupted, WeightsMissing, WeightsUnsupported
from mercury_model.spec.card import ModelCard
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights import checkpoint
from mercury_model.weights.checkpoint import Tensors
from mercury_model.weights.families import Family, read_config
from mercury_model.weights.gguf import GgufTensors, open_gguf

_REMEDY = "Correct or replace it; the cards of known models show the form."


def read_card(path: Path) -> ModelCard:
    """A card. Raises WeightsMissing if there is none, WeightsCorrupted if it makes no sense."""
    try:
        card = ModelCard.from_json(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"{path.parent} has no {path.name}, so it is not the folder of a model.",
            "Such a folder holds card.json, tokenizer.json and the weights.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorrupted(f"{path} is not a model card ({error}).", _REMEDY) from error
    if not re.fullmatch(r"\w[\w.-]*", card.name):
        # Files in the cache folder are named after it.
        raise WeightsCorrupted(
            f"{path} names its model {card.name!r}.", "Use letters, digits, dots, _ and -."
        )
    size = card.architecture.vocab_size
    outside = [i for i in (*card.infill.marks, *card.infill.end_ids) if not 0 <= i < size]
    if outside:
        raise WeightsCorrupted(
            f"{path} names the id {outside[0]}, and the vocabulary has {size} tokens.", _REMEDY
        )
    return card


def gguf_file(folder: Path) -> Path:
    """The one GGUF file of a folder. Raises WeightsMissing, and WeightsUnsupported for several."""
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise WeightsMissing(
            f"{folder} has neither a tokenizer.json nor a GGUF file.", "Put one of them there."
        )
    if len(found) > 1:
        raise WeightsUnsupported(
            f"{folder} has several GGUF files: {', '.join(path.name for path in found)}.",
            "Keep one.",
        )
    return found[0]


def tensors(folder: Path, config: ModelConfig) -> Tensors:
    """The weights of a folder in fp32. Raises WeightsUnsupported unless they are as `config` says.

    Raises WeightsMissing where there are none.
    """
    if any(folder.glob("*.gguf")):
        file = open_gguf(gguf_file(folder))
        _compare(folder, config, file.config(tied=config.tie_word_embeddings))
        return GgufTensors(file, config)
    if (folder / "config.json").exists():
        family, found = _hub_config(folder / "config.json")
        _compare(folder, config, found)
        return _complete(folder, config, checkpoint.read_hub(folder, family.rename))
    files = [checkpoint.read_delta(path) for path in sorted(folder.glob("*.safetensors"))]
    result = {name: values for file in files for name, values in file.items()}
    if not result:
        raise WeightsMissing(f"{folder} has no weights.", "Put a GGUF or safetensors file there.")
    return _complete(folder, config, result)


def state(folder: Path) -> str:
    """Changes whenever a file of the folder is written."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    found = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12]


def _hub_config(path: Path) -> tuple[Family, ModelConfig]:
    """What the `config.json` of a hub folder says. Raises WeightsCorrupted, WeightsUnsupported."""
    try:
        return read_config(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorrupted(
            f"{path} is not the configuration of a network ({error}).",
            "Fetch the folder of the model again.",
        ) from error


def _complete(folder: Path, config: ModelConfig, tensors: Tensors) -> Tensors:
    """`tensors`. Raises WeightsUnsupported if one is missing or has another shape than expected."""
    for name, shape in checkpoint.tensor_shapes(config).items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            what = "is missing" if found is None else f"has the shape {list(found)}"
            raise WeightsUnsupported(
                f"The weights in {folder} do not fit card.json: {name} {what},"
                f" and {list(shape)} is expected.",
                "Correct card.json or replace the weights.",
            )
    return tensors


def _compare(folder: Path, said: ModelConfig, found: ModelConfig) -> None:
    there = asdict(found)
    wrong = [
        f"{name} {value} instead of {there[name]}"
        for name, value in asdict(said).items()
        if value != there[name]
    ]
    if wrong:
        raise WeightsUnsupported(
            f"The card in {folder} does not describe the weights: {', '.join(wrong)}.",
            "Correct card.json.",
        )
