import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import LoadedModel, load
from mercury_model.network.denoiser import Denoiser, load_denoiser
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.card import ModelCard
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.training.tiny.corpus import COPYLEFT, PERMISSIVE, installed
from mercury_model.training.tiny.likelihood import causal_log_probs, denoised_log_probs
from mercury_model.training.tiny.trigram import Trigram
from mercury_model.weights import registry, tensor_file
from mercury_model.weights.registry import BUNDLED

SOURCES = Path(__file__).parents[2] / "mercury_lsp" / "bench" / "data" / "sources"
FILES = [BUNDLED / name for name in ("tiny.safetensors", "tiny-tokenizer.json", "tiny.json")]
MODES: tuple[Mode, ...] = ("diffusion", "autoregressive", "verified")
GAPS = [
    FimPrompt("def mean(values):\n    return ", "\n"),
    FimPrompt("class Point:\n    def __init__(self, x, y):\n        self.x = x\n        ", "\n\n"),
    FimPrompt("import os\n\nfor name in os.listdir(", "):\n    print(name)\n"),
    FimPrompt("", ""),
    FimPrompt("x = '\U0001f600", "'\n"),
]


@pytest.fixture(scope="module")
def network() -> Denoiser:
    card = registry.card("tiny")
    weights = registry.merged(registry.find("tiny"), Path("nowhere"))
    return load_denoiser(card.architecture, weights, card.infill.mask_id).eval()


@pytest.fixture(scope="module")
def tiny(network: Denoiser) -> LoadedModel:
    """In fp32, so that the shape of a call changes next to nothing."""
    card = registry.card("tiny")
    tokenizer = Tokenizer(BUNDLED / "tiny-tokenizer.json", card.infill)
    return LoadedModel(card, tokenizer, TorchRuntime(network, dtype=torch.float32))


@pytest.fixture
def infiller(tiny: LoadedModel) -> Infiller:
    return Infiller(tiny.card, tiny.tokenizer, tiny.runtime)


def fill(infiller: Infiller, gap: FimPrompt, sampling: SamplingParams) -> list[PartialOutput]:
    return list(infiller.drafts(gap, sampling))


def header() -> dict[str, str]:
    return tensor_file.read(FILES[0]).metadata


def test_tiny_takes_no_more_than_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in FILES) <= 4_000_000


def test_tiny_loads_without_anything_being_pulled(tmp_path: Path) -> None:
    assert registry.is_available("tiny", tmp_path)
    loaded = load("tiny", cache_dir=tmp_path)
    assert loaded.card.infill.languages == ("python",)
    assert registry.find("tiny").download_bytes == 0


def test_the_card_beside_the_weights_is_the_one_in_their_header() -> None:
    assert ModelCard.from_json(json.loads(header()["card"])) == registry.card("tiny")


def test_tiny_learnt_from_permissively_licensed_code_alone() -> None:
    corpus = json.loads(header()["corpus"])
    assert sum(package["characters"] for package in corpus) > 5_000_000
    for package in corpus:
        assert re.fullmatch(r"\d+\..+", package["version"])
        assert PERMISSIVE.search(package["licence"])
        assert not COPYLEFT.search(package["licence"])


@pytest.mark.parametrize(
    ("measure", "files"),
    [(causal_log_probs, 4), (denoised_log_probs, 1)],
    ids=["causal", "denoised"],
)
def test_held_out_code_is_likelier_than_under_a_trigram_of_the_same_corpus(
    tiny: LoadedModel, network: Denoiser, measure: object, files: int
) -> None:
    assert callable(measure)
    kind = measure.__name__.removesuffix("_log_probs")
    judged = json.loads(header()["held_out"])
    for name, nats in islice(judged.items(), files):
        ids = tiny.tokenizer.encode((SOURCES / name).read_text("utf-8"))
        assert len(ids) == nats["tokens"]
        own = -float(np.mean(measure(network, ids, tiny.card.infill)))
        assert own == pytest.approx(nats[kind], abs=0.01)

    def nats_of_all(model: str) -> float:
        return float(sum(nats["tokens"] * nats[model] for nats in judged.values()))

    assert nats_of_all(kind) < nats_of_all("trigram")


@pytest.mark.slow
def test_the_recorded_trigram_is_what_the_corpus_gives(tiny: LoadedModel) -> None:
    packages = list(installed())
    recorded = {one["name"]: one["version"] for one in json.loads(header()["corpus"])}
    if {one.name: one.version for one in packages} != recorded:
        pytest.skip("other releases are installed than those that tiny learnt from")
    texts = [tiny.tokenizer.encode(text) for one in packages for text in one.texts]
    trigram = Trigram(texts, tiny.card.architecture.vocab_size, tiny.card.infill.prefix_id)
    for name, nats in json.loads(header()["held_out"]).items():
        ids = tiny.tokenizer.encode((SOURCES / name).read_text("utf-8"))
        assert -trigram.log_probs(ids).mean() == pytest.approx(nats["trigram"], abs=0.01)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_same_seed_gives_the_same_drafts(
    infiller: Infiller, mode: Mode, temperature: float
) -> None:
    sampling = SamplingParams(mode=mode, temperature=temperature, seed=3, max_tokens=20)
    for gap in GAPS:
        list(infiller.prefill(gap))
        first = fill(infiller, gap, sampling)
        again = fill(infiller, gap, sampling)
        assert [draft.ids for draft in again] == [draft.ids for draft in first]
        assert first[-1].finished


def test_stopping_after_n_steps_equals_the_first_n_drafts(tiny: LoadedModel) -> None:
    sampling = SamplingParams(max_tokens=16)
    whole = fill(Infiller(tiny.card, tiny.tokenizer, tiny.runtime), GAPS[1], sampling)
    for count in range(len(whole)):
        fresh = Infiller(tiny.card, tiny.tokenizer, tiny.runtime)
        assert list(islice(fresh.drafts(GAPS[1], sampling), count)) == whole[:count]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_verified_text_is_the_autoregressive_text(infiller: Infiller, temperature: float) -> None:
    sampling = SamplingParams(temperature=temperature, seed=5, max_tokens=24)
    for gap in GAPS:
        *_, exact = fill(infiller, gap, replace(sampling, mode="autoregressive"))
        *_, verified = fill(infiller, gap, replace(sampling, mode="verified"))
        assert (verified.text, verified.ids) == (exact.text, exact.ids)


def test_text_typed_on_is_filled_as_from_a_fresh_start(tiny: LoadedModel) -> None:
    typed = "def area(radius):\n    return math.pi * radius"
    reused = Infiller(tiny.card, tiny.tokenizer, tiny.runtime)
    for end in range(len(typed) - 12, len(typed) + 1, 3):
        gap = FimPrompt(typed[:end], "\n\nprint(area(2))\n")
        fresh = Infiller(tiny.card, tiny.tokenizer, tiny.runtime)
        sampling = SamplingParams(max_tokens=16)
        assert fill(reused, gap, sampling)[-1].ids == fill(fresh, gap, sampling)[-1].ids


def test_each_rank_begins_with_another_token(infiller: Infiller) -> None:
    firsts = [fill(infiller, GAPS[0], SamplingParams(rank=rank))[-1].ids[:1] for rank in range(3)]
    assert len(set(firsts)) == 3
