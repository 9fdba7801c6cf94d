"""Train tiny from nothing: `python -m mercury_model.training.tiny --minutes 24 --out FOLDER`.

Writes `tiny.safetensors`, `tiny-tokenizer.json` and the card `tiny.json`. What was learnt from,
under which licences, and how well, is in the header of the weights.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from mercury_model.network.denoiser import Denoiser
from mercury_model.spec.card import ModelCard
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.tiny.batch import Batch, collate, examples
from mercury_model.training.tiny.corpus import Package, installed
from mercury_model.training.tiny.fit import LearningRates, full_trainer, init_weights
from mercury_model.training.tiny.likelihood import causal_log_probs, denoised_log_probs
from mercury_model.training.tiny.trigram import Trigram
from mercury_model.weights import tensor_file

MARKS = ("<|end|>", "<|suffix|>", "<|prefix|>", "<|middle|>", "<|mask|>")
VOCABULARY = 2_048
CARD = ModelCard(
    name="tiny",
    architecture=ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        num_layers=4,
        num_heads=3,
        num_kv_heads=1,
        head_dim=64,
        intermediate_size=448,
        rope_theta=10_000.0,
    ),
    infill=FimFormat(
        suffix_id=1,
        prefix_id=2,
        middle_id=3,
        eos_id=0,
        mask_id=4,
        block_length=8,
        prefix_tokens=256,
        suffix_tokens=128,
        middle_tokens=64,
        shift=True,
        languages=("python",),
    ),
    licence="Apache-2.0",
    description="tiny: trained from nothing in minutes on a CPU, for tests and examples.",
)
EXAMPLES_A_STEP = 4
LOG_STEPS = 20
LOGGED = ("step", "clean", "noisy")
SEED = 20_260

log = logging.getLogger("mercury_model.training.tiny")


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything, from the installed packages to the weights."""
    parser = argparse.ArgumentParser(description="Train tiny from nothing.")
    parser.add_argument("--minutes", type=float, default=24.0, help="CPU time for the network")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="texts to judge by")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # so that CPU time is time, whatever else runs

    packages = list(installed())
    texts = [text for package in packages for text in package.texts]
    pairs = byte_pairs(texts)
    network = Denoiser(CARD.architecture)
    init_weights(network, torch.Generator().manual_seed(SEED))
    batches, seconds = _batches(texts, pairs), given.minutes * 60
    trainer = full_trainer(
        network, lambda _: next(batches), seconds, time.process_time, LearningRates()
    )
    for report in trainer.steps():
        if trainer.step % LOG_STEPS == 0:
            log.info("step %d  clean %.3f  masked %.3f", *map(report.get, LOGGED))
    network = rounded(network)
    judged = judge(network, pairs, texts, given.held_out)
    for name, nats in judged.items():
        log.info("%s: %s", name, nats)
    write(given.out, network, pairs, packages, judged)


def byte_pairs(texts: Sequence[str]) -> Tokenizer:
    """A byte-level BPE tokenizer whose first ids are the marks."""
    pairs = Tokenizer(BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(texts, trainer)
    pairs.encode_special_tokens = True
    return pairs


def _batches(texts: Sequence[str], pairs: Tokenizer) -> Iterator[Batch]:
    rng = np.random.default_rng(SEED)
    drawn = examples(texts, lambda text: pairs.encode(text).ids, CARD.infill, Random(SEED))
    while True:
        yield collate([next(drawn) for _ in range(EXAMPLES_A_STEP)], CARD.infill, rng)


def rounded(network: Denoiser) -> Denoiser:
    """The network as its weights will be read back from fp16."""
    return network.half().float().eval()


def judge(
    network: Denoiser, pairs: Tokenizer, texts: Sequence[str], held_out: Sequence[Path]
) -> dict[str, dict[str, float]]:
    """Nats a token on files that were not learnt from: the trigram's, and the network's two."""
    if not held_out:
        return {}
    learnt = [encoding.ids for encoding in pairs.encode_batch(texts)]
    trigram = Trigram(learnt, VOCABULARY, CARD.infill.prefix_id)
    judged = {}
    for path in held_out:
        ids = pairs.encode(path.read_text("utf-8")).ids
        log_probs = {
            "trigram": trigram.log_probs(ids),
            "causal": causal_log_probs(network, ids, CARD.infill),
            "denoised": denoised_log_probs(network, ids, CARD.infill),
        }
        nats = {name: round(-float(values.mean()), 4) for name, values in log_probs.items()}
        judged[path.name] = {"tokens": len(ids), **nats}
    return judged


def write(
    folder: Path,
    network: Denoiser,
    pairs: Tokenizer,
    packages: Sequence[Package],
    judged: dict[str, dict[str, float]],
) -> None:
    """Weights, tokenizer and card."""
    folder.mkdir(parents=True, exist_ok=True)
    card = json.dumps(CARD.to_json(), indent=1)
    corpus = [
        {
            "name": package.name,
            "version": package.version,
            "licence": package.licence,
            "characters": sum(map(len, package.texts)),
        }
        for package in packages
    ]
    weights = {
        name.removesuffix(".weight"): value.half().numpy()
        for name, value in network.state_dict().items()
    }
    header = {"card": card, "corpus": json.dumps(corpus), "held_out": json.dumps(judged)}
    tensor_file.write(folder / "tiny.safetensors", weights, header)
    pairs.save(str(folder / "tiny-tokenizer.json"), pretty=False)
    (folder / "tiny.json").write_text(card + "\n", "utf-8")


if __name__ == "__main__":
    main()
