"""Sets an adaptation up: a model of the registry, a corpus, a device."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from mercury_model.training import data
from mercury_model.training.adaptation import (
    Adaptation,
    AdapterConfig,
    adaptation_trainer,
    saved_config,
)
from mercury_model.training.base import delta, frozen, inherit, training_dtype
from mercury_model.training.collate import Blocks, Packed
from mercury_model.training.feed import ExampleFeed, by_language
from mercury_model.training.trainer import Trainer
from mercury_model.training.vocabulary import written
from mercury_model.weights import registry, tensor_file
from mercury_model.weights.checkpoint import Tensors, read_delta
from mercury_model.weights.registry import ModelEntry

TRAIN = "train.jsonl"
HELD_OUT = "held-out.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """An adaptation before its first step, and the examples it is trained and probed on."""

    trainer: Trainer[Sequence[Packed]]
    feed: ExampleFeed
    held_out: ExampleFeed


def prepare(
    name: str,
    config: AdapterConfig,
    corpus: Path,
    cache_dir: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> TrainingSetup:
    """The adaptation of model `name`. It continues the model's last delta if training made it, and
    starts new adapters on top of the model otherwise.

    The frozen weights are in `dtype`, by default the one that the device is fast at. `corpus` holds
    TRAIN and HELD_OUT. Raises WeightsMissing, and OSError without a corpus.
    """
    entry, card = registry.find(name), registry.card(name)
    ground, learnt = frozen_base(entry)
    weights = registry.merged(ground, cache_dir)
    base = frozen(card.architecture, weights, device, dtype or training_dtype(device))
    encode = registry.tokenizer(entry, cache_dir).encode

    def feed(file: str, seed: str) -> ExampleFeed:
        sources = by_language(data.read(corpus / file))
        return ExampleFeed(sources, encode, card.infill, Blocks(), seed)

    trained = feed(TRAIN, str(config.seed))
    objective = Adaptation.of(base, config)
    inherit(objective.plain, learnt, "")
    inherit(objective.gated, learnt, "mask_")
    trainer = adaptation_trainer(base, objective, config, trained)
    return TrainingSetup(trainer, trained, feed(HELD_OUT, "probe"))


def frozen_base(entry: ModelEntry) -> tuple[ModelEntry, Tensors]:
    """The weights that an adaptation of `entry` keeps frozen, and the adapters that it continues.

    A delta with gated adapters was made by training, and the next training replaces it. Any other
    delta is part of the base.
    """
    if entry.base is None or not entry.weights[1:]:
        return entry, {}
    *ground, last = entry.weights
    learnt = read_delta(last.open())
    if not any(key.endswith(".mask_a") for key in learnt):
        return entry, {}
    return replace(entry, weights=tuple(ground)), learnt


def export_delta(name: str, checkpoint: Path, corpus: Path, cache_dir: Path, out: Path) -> int:
    """Write the adapters of a checkpoint as a delta on the frozen base of model `name`.

    Only tokens that `corpus` needs will be predicted; returns how many these are.
    """
    card, entry = registry.card(name), registry.find(name)
    encode = registry.tokenizer(entry, cache_dir).encode
    stored = load_file(checkpoint)
    config = saved_config(checkpoint)
    notes = {
        "on": " ".join(weights.sha256 for weights in frozen_base(entry)[0].weights),
        "config": json.dumps(asdict(config)),
    }
    vocabulary = written(data.read(corpus / TRAIN), encode, [card.infill.eos_id], config.seed)
    learnt = delta(stored)
    tensor_file.write(out, {**learnt, "vocabulary": vocabulary}, notes)
    return len(vocabulary)
