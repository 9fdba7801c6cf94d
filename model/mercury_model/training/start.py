"""What a run of the adaptation starts from: a model of the table, a corpus, a device."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.training import data
from mercury_model.training.adapt import AdapterConfig, AdapterTrainer, saved_config
from mercury_model.training.base import delta, frozen, inherit, training_dtype
from mercury_model.training.collate import Blocks
from mercury_model.training.feed import ExampleFeed, by_language
from mercury_model.training.vocabulary import written
from mercury_model.weights import registry, tensor_file
from mercury_model.weights.checkpoint import Tensors, read_delta
from mercury_model.weights.registry import ModelEntry

TRAIN = "train.jsonl"
HELD_OUT = "held-out.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """A run before its first step, and what it is trained and probed on."""

    run: AdapterTrainer
    feeds: tuple[ExampleFeed, ExampleFeed]


def prepare(
    name: str,
    plan: AdapterConfig,
    corpus: Path,
    cache_dir: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> TrainingSetup:
    """Ready to train model `name` on: from its last delta if a run made that, else on top of it.

    What is frozen is kept in `dtype`, by default what the device is fast at. `corpus` holds TRAIN
    and HELD_OUT. Raises WeightsMissing, and OSError without a corpus.
    """
    entry, card = registry.find(name), registry.card(name)
    ground, learnt = frozen_base(entry)
    weights = registry.merged(ground, cache_dir)
    base = frozen(card.architecture, weights, device, dtype or training_dtype(device))
    encode = Tokenizer(registry.BUNDLED / entry.tokenizer, card.infill).encode

    def feed(file: str, seed: str) -> ExampleFeed:
        sources = by_language(data.read(corpus / file))
        return ExampleFeed(sources, encode, card.infill, Blocks(), seed)

    run = AdapterTrainer(base, plan)
    inherit(run.network.plain, learnt, "")
    inherit(run.network.gated, learnt, "mask_")
    return TrainingSetup(run, (feed(TRAIN, str(plan.seed)), feed(HELD_OUT, "probe")))


def frozen_base(entry: ModelEntry) -> tuple[ModelEntry, Tensors]:
    """What a run on `entry` leaves as it is, and the adapters that it goes on from.

    A delta with gated adapters was made by a run: the next one takes its place. Any other stays.
    """
    *ground, last = entry.weights
    if entry.base is None or not ground:
        return entry, {}
    learnt = read_delta(last.open())
    if not any(key.endswith(".mask_a") for key in learnt):
        return entry, {}
    return replace(entry, weights=tuple(ground)), learnt


def export_delta(name: str, checkpoint: Path, corpus: Path, out: Path) -> int:
    """Write the adapters of a checkpoint as a delta on the foundation of model `name`.

    Of its tokens those that `corpus` needs will be predicted; returns how many these are.
    """
    card, entry = registry.card(name), registry.find(name)
    encode = Tokenizer(registry.BUNDLED / entry.tokenizer, card.infill).encode
    stored = load_file(checkpoint)
    plan = saved_config(checkpoint)
    notes = {
        "on": " ".join(weights.sha256 for weights in frozen_base(entry)[0].weights),
        "plan": json.dumps(asdict(plan)),
    }
    vocabulary = written(data.read(corpus / TRAIN), encode, [card.infill.eos_id], plan.seed)
    learnt = delta(card.architecture, stored)
    tensor_file.write(out, {**learnt, "vocabulary": vocabulary}, notes)
    return len(vocabulary)
