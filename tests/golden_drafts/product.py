"""All that the golden drafts know of the product's own names. Plain values go out.

When a name of the product changes, this is the only file here that changes with it.
"""

import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from fakes import FakeClock
from golden_drafts.cases import Case, Session, neighbour

from mercury_lsp import machine
from mercury_lsp.backend.infill import Backend, limits
from mercury_lsp.config import Config
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.types import Completion, Document, Request, Trigger
from mercury_lsp.service import ModelService, ModelSettings
from mercury_model import noise, serving
from mercury_model.decoding import unmasking
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import LoadedModel, load
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.card import CacheTrust
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

THREADS = 1
TRUST = CacheTrust(always=-4.46, length=1.1, agreed=2.73, sure=-3.2)
FILE_ID, FILE_TOKENS = 5, 96
"""Tiny has no mark for other files: an exclamation mark will do."""


@cache
def tiny_in_double_precision(threads: int = THREADS) -> LoadedModel:
    card = registry.card("tiny")
    weights = registry.merged(registry.find("tiny"), Path("nowhere"))
    network = load_denoiser(card.architecture, weights, card.infill.mask_id)
    runtime = TorchRuntime(network, dtype=torch.float64, threads=threads)
    return LoadedModel(
        card, Tokenizer(registry.BUNDLED / "tiny-tokenizer.json", card.infill), runtime
    )


@cache
def on_onnx(name: str, cache_dir: Path, threads: int = THREADS) -> LoadedModel:
    return load(name, cache_dir=cache_dir, threads=threads, runtime="onnx")


def made_on(model: LoadedModel) -> dict[str, str]:
    """Where the model gives the same to the last bit: on this chip, with this version."""
    chip = machine.describe()
    library = "torch" if isinstance(model.runtime, TorchRuntime) else "onnxruntime"
    return {
        "processor": chip.processor,
        "flags": " ".join(chip.flags),
        "runtime": model.runtime.name,
        library: machine.versions()[library],
    }


def fill(model: LoadedModel, session: Session, mode: str | None = None) -> list[dict[str, Any]]:
    """Each case of a session: the context, what was left while reading ahead, the drafts."""
    model = _with_card(model, session.card)
    infiller = Infiller(model.card, model.tokenizer, model.runtime, session.context_bytes)
    found = []
    for case in session.cases:
        gap, settings = _gap(case), _sampling(case, mode)
        left = list(infiller.prefill(gap)) if case.ahead else []
        with closing(infiller.drafts(gap, settings)) as drafts:
            drawn = [plain(draft) for draft in islice(drafts, case.drawn)]
        found.append(
            {"context": _digest(infiller.fim_context(gap).ids), "ahead": left, "drafts": drawn}
        )
    return found


def complete(model: LoadedModel, session: Session, index: int) -> list[dict[str, Any]]:
    """Each key of a session through the whole product, cached completions and all.

    The clock stands still, or a step takes 10 ms of a deadline of 60.
    """
    mode = ("verified", "diffusion", "autoregressive")[index % 3]
    config = Config(mode=mode, max_tokens=32)
    clock, seen = FakeClock(), list[PartialOutput]()

    def watch(draft: PartialOutput) -> None:
        seen.append(draft)
        clock.advance(10.0 if index % 4 == 3 else 0.0)

    service = ModelService(lambda name, threads: model)
    service.load(ModelSettings(model.card.name)).result()
    backend, cache = Backend(service, config), CompletionCache(config.cache_entries)
    infill = partial(backend.infill, watch=watch)
    rules = pipeline.CompletionPolicy(limits(model.card))
    if index % 2:
        rules = replace(rules, min_confidence=config.min_confidence, distraction=1.0)
    found = []
    for key, case in enumerate(session.cases):
        seen.clear()
        trigger = Trigger.INVOKED if key in (1, 3) else Trigger.AUTOMATIC
        document = Document("file:///one.py", "python", case.prefix + case.suffix)
        others = tuple(Document(f"file:///{n}", "python", neighbour(n)) for n in case.elsewhere)
        request = Request(document, len(case.prefix), trigger, None, others)
        budget = Budget(clock() + 60_000_000, clock)
        arguments = (request, infill, cache, budget, rules)
        if key == 3:
            offered = pipeline.alternatives(*arguments)
        else:
            one = pipeline.complete(*arguments)
            offered = [] if one is None else [one]
        found.append({"completions": [_completion(one) for one in offered], "drafts": len(seen)})
    service.close()
    return found


def serve(model: LoadedModel, cases: Sequence[Case]) -> list[list[Any]]:
    """News of each pass of the engine: the number of the job, how it ended, its best draft.

    Two come with each pass; one is cancelled, one runs out of time, one is in a hurry.
    """
    clock = FakeClock()
    one = serving.Engine(model.card, model.tokenizer, model.runtime, serving.EngineLimits(), clock)
    waiting, jobs, news = list(enumerate(cases)), list[serving.InfillSequence](), list[list[Any]]()
    while waiting or one.busy:
        for index, case in waiting[:2]:
            order = serving.InfillRequest(
                _gap(case),
                _sampling(case, None),
                serving.Priority(index % 3),
                within_ms=150.0 if index == 4 else None,
                client=index % 2,
            )
            jobs.append(one.submit(order))
        waiting = waiting[2:]
        if len(jobs) == 12 and jobs[8].outcome is None:
            jobs[8].cancel()
        clock.advance(10.0)
        for job in one.step():
            outcome = None if job.outcome is None else job.outcome.value
            news.append([job.number, outcome, plain(job.draft)])
    return news


def plain(draft: PartialOutput) -> dict[str, Any]:
    """A draft of the model as plain values."""
    return {
        "ids": list(draft.ids),
        "settled": "".join(".x"[settled] for settled in draft.committed),
        "confidences": [float(chance) for chance in draft.confidences],
        "text": draft.text,
        "finished": draft.finished,
        "reason": draft.reason,
        "steps": draft.steps,
        "prefill": draft.prefill,
        "ending": float(draft.ending),
    }


def _digest(ids: Sequence[int]) -> list[int]:
    """How many ids, and a checksum."""
    return [len(ids), zlib.crc32(repr(list(ids)).encode())]


def _completion(completion: Completion) -> list[Any]:
    return [completion.text, completion.replaces, completion.confidence, completion.finished]


def _with_card(model: LoadedModel, card: str) -> LoadedModel:
    if card == "trusting":
        return replace(model, card=replace(model.card, cache_trust=TRUST))
    if card == "files":
        infill = replace(model.card.infill, file_id=FILE_ID, file_tokens=FILE_TOKENS)
        tokenizer = Tokenizer(registry.BUNDLED / "tiny-tokenizer.json", infill)
        return replace(model, card=replace(model.card, infill=infill), tokenizer=tokenizer)
    assert card == "plain"
    return model


def _gap(case: Case) -> FimPrompt:
    return FimPrompt(
        case.prefix,
        case.suffix,
        others=tuple((name, neighbour(name)) for name in case.others),
        prediction=case.prediction,
        elsewhere=tuple(neighbour(name) for name in case.elsewhere),
    )


def _sampling(case: Case, mode: str | None) -> SamplingParams:
    settings = dict(case.sampling)
    if mode is not None:
        settings["mode"] = mode
    if "policy" in settings:
        name, *values = settings["policy"]
        values = [noise.SCHEDULES[v] if isinstance(v, str) else v for v in values]
        settings["policy"] = getattr(unmasking, name)(*values)
    if "remask" in settings:
        settings["remask"] = unmasking.Remask(settings["remask"])
    return SamplingParams(**settings)
