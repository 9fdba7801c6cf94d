"""The continuous batching engine: the network calls of many infills, made in shared passes.

Each step ends the sequences that are over, chooses whose calls share the next pass, makes it, and
resumes the sequences with their predictions. One thread takes the steps; requests come from any
thread. Knows no text; the clock is an argument.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mercury_model.decoding.call_generator import CallGenerator, advance, run_alone
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt, PromptTokenizer
from mercury_model.errors import InsufficientMemory, Overloaded
from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime
from mercury_model.serving.cost_model import CostModel
from mercury_model.serving.request import InfillRequest, InfillSequence, Outcome, Priority
from mercury_model.serving.scheduler import Scheduler
from mercury_model.serving.window import chunk_tokens, is_read_in_time
from mercury_model.spec.card import ModelCard
from mercury_model.spec.fim_format import FimContext

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The limits of an engine.

    It holds up to `requests` of each priority at a time and refuses more. `context_bytes` bounds
    all keys and values, those of running sequences and the cached ones. Calls are added to a pass
    while it should take at most `pass_ms`, which bounds the time to cancel, and the time that a key
    waits for less urgent calls. Every priority is served at least every `patience_ms`.
    """

    requests: int = 256
    context_bytes: int = 512 << 20
    pass_ms: float = 120.0
    patience_ms: float = 1_000.0


@dataclass(slots=True)
class _Pass:
    """Sequences whose calls share a pass, and the number of their rows."""

    sequences: list[InfillSequence] = field(default_factory=list)
    rows: int = 0


class Engine:
    """Fills many gaps with one model. Raises ValueError for limits that allow no request."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: PromptTokenizer,
        runtime: Runtime,
        limits: EngineLimits,
        clock: Callable[[], int],
    ) -> None:
        if limits.requests < 1:
            raise ValueError("an engine must hold at least one request")
        self._runtime = runtime
        self._limits = limits
        self._clock = clock
        self._cost_model = cost_model = CostModel()
        self._infiller = Infiller(
            card, tokenizer, runtime, limits.context_bytes, lambda: chunk_tokens(cost_model)
        )
        self._scheduler = Scheduler(round(limits.patience_ms * 1e6), runtime.max_batch_size)
        self._lock = threading.Lock()
        self._held: Counter[Priority] = Counter()
        self._arrived: list[InfillSequence] = []
        self._live: list[InfillSequence] = []
        self._number = 0

    @property
    def busy(self) -> bool:
        """Whether any sequence is waiting or running."""
        return bool(self._arrived or self._live)

    def drafts(
        self, gap: FimPrompt, sampling: SamplingParams, deadline_ns: int | None = None
    ) -> Generator[PartialOutput, None, None]:
        """The outputs for one gap, its calls made alone; advanced only between two steps.

        With a deadline, the quick window is read if the full one cannot be read in time.
        """
        window = self._window(gap, deadline_ns)
        return self._alone(self._infiller.generate(gap, window, sampling))

    def prefill(self, gap: FimPrompt) -> Generator[int, None, None]:
        """Read a gap ahead of its request, the quick window first; advanced as `drafts` is.

        Yields the number of tokens still to read after each chunk. Stopping early loses nothing.
        """
        infiller = self._infiller
        full, quick = infiller.fim_context(gap), infiller.quick_context(gap)
        if quick is None:
            yield from self._alone(infiller.read(full))
            return
        left = infiller.unread(full)
        if infiller.unread(quick) < left:
            for quick_left in self._alone(infiller.read(quick)):
                yield quick_left + left
        if infiller.unread(full):
            yield from self._alone(infiller.read(full))

    def set_limits(self, limits: EngineLimits) -> None:
        """Hold as many requests and as much context as `limits` say. Only between two steps."""
        held = replace(self._limits, requests=limits.requests, context_bytes=limits.context_bytes)
        self._limits = held
        self._infiller.set_capacity(held.context_bytes - self._reserved_bytes)

    @property
    def context_bytes(self) -> int:
        """The memory of all contexts in bytes, reservations of running sequences included."""
        return self._infiller.cached_bytes + self._reserved_bytes

    def submit(self, request: InfillRequest) -> InfillSequence:
        """Accept a request, from any thread. Raises Overloaded if too many are held already."""
        now_ns = self._clock()
        within_ns = None if request.within_ms is None else round(request.within_ms * 1e6)
        with self._lock:
            if self._held[request.priority] >= self._limits.requests:
                raise Overloaded(
                    f"{self._limits.requests} requests of priority {request.priority.name.lower()}"
                    " wait or are under way, as many as the engine holds.",
                    "Ask again when some are done, or raise the limit of requests.",
                )
            self._held[request.priority] += 1
            self._number += 1
            deadline_ns = None if within_ns is None else now_ns + within_ns
            sequence = InfillSequence(request, self._number, now_ns, deadline_ns)
            self._arrived.append(sequence)
        return sequence

    def step(self) -> list[InfillSequence]:
        """Make at most one pass. Returns the sequences whose draft or outcome is new."""
        with self._lock:
            self._live += self._arrived
            self._arrived = []
        now_ns = self._clock()
        before = [(sequence, sequence.draft) for sequence in self._live]
        for sequence in list(self._live):
            if sequence.stopped:
                self._end(sequence, Outcome.CANCELLED)
            elif sequence.deadline_ns is not None and sequence.deadline_ns <= now_ns:
                self._end(sequence, Outcome.EXPIRED)
        chosen = self._choose(now_ns)
        if chosen.sequences:
            answers = self._run_pass(chosen)
            for sequence, answer in zip(chosen.sequences, answers, strict=True):
                self._resume(sequence, answer)
        return [
            sequence
            for sequence, draft in before
            if sequence.outcome or sequence.draft is not draft
        ]

    def _choose(self, now_ns: int) -> _Pass:
        """The sequences whose calls share the next pass."""
        chosen, full = _Pass(), False
        for sequence in self._scheduler.schedule(self._live, now_ns):
            if len(chosen.sequences) == self._runtime.max_batch_size:
                break
            if sequence.generator is None and not full:
                try:
                    full = not self._start(sequence, chosen)
                except Exception as error:  # a gap that is no text, say: it ends this request
                    self._fail(sequence, error)
            if sequence.call is not None and self._fits(sequence, chosen, now_ns):
                chosen.sequences.append(sequence)
                chosen.rows += len(sequence.call.ids)
        return chosen

    def _fits(self, sequence: InfillSequence, chosen: _Pass, now_ns: int) -> bool:
        """Whether a pass with this call too ends in time for each of its sequences."""
        assert sequence.call is not None
        if not chosen.sequences:
            return True
        expected_ns = self._cost_model.expected_ns(chosen.rows + len(sequence.call.ids))
        allowed_ns = self._limits.pass_ms * 1e6
        for one in (*chosen.sequences, sequence):
            if one.deadline_ns is None or one.call is None:
                continue
            left_ns = one.deadline_ns - now_ns
            if self._cost_model.expected_ns(len(one.call.ids)) <= left_ns:  # else it is late anyway
                allowed_ns = min(allowed_ns, left_ns)
        return expected_ns <= allowed_ns

    def _run_pass(self, chosen: _Pass) -> Sequence[Predictions | Exception]:
        """Make a pass. An error in it is the answer to each of its calls."""
        calls = [sequence.call for sequence in chosen.sequences if sequence.call is not None]
        try:
            answers: Sequence[Predictions | Exception] = self._timed(calls)
        except Exception as error:  # each infill has to let go of its context, and say why
            answers = [error] * len(calls)
        self._scheduler.served(chosen.sequences, self._clock())
        return answers

    def _window(self, gap: FimPrompt, deadline_ns: int | None) -> FimContext:
        """The full window, or the quick one if the full one takes too long to read."""
        full = self._infiller.fim_context(gap)
        if deadline_ns is None:
            return full
        unread, left_ns = self._infiller.unread(full), deadline_ns - self._clock()
        if is_read_in_time(unread, left_ns, self._cost_model):
            return full
        quick = self._infiller.quick_context(gap)
        return full if quick is None or self._infiller.unread(quick) >= unread else quick

    def _alone(self, generator: CallGenerator[T]) -> Generator[T, None, None]:
        return run_alone(generator, self._make)

    def _make(self, call: ForwardCall) -> Predictions:
        [answer] = self._timed([call])
        return answer

    def _timed(self, calls: Sequence[ForwardCall]) -> Sequence[Predictions]:
        """Make a pass; the cost model learns from it."""
        began_ns = self._clock()
        answers = self._runtime.forward_batch(calls)
        self._cost_model.observe(sum(len(call.ids) for call in calls), self._clock() - began_ns)
        return answers

    def _start(self, sequence: InfillSequence, chosen: _Pass) -> bool:
        """Start a sequence if there is memory for its context; returns whether there was.

        Less urgent sequences that are not in the pass give way: they start again later.
        """
        infiller, limit = self._infiller, self._limits.context_bytes
        wanted = sequence.wanted = sequence.wanted or infiller.fim_context(sequence.request.gap)
        needed = self._runtime.kv_bytes(infiller.most_tokens(wanted, sequence.request.sampling))
        if needed > limit:
            self._fail(
                sequence,
                InsufficientMemory(
                    f"A request needs {needed >> 20} MiB for its context,"
                    f" and the engine may hold {limit >> 20} MiB.",
                    "Raise the limit of context_bytes, or shorten the prompt.",
                ),
            )
            return True
        while self._reserved_bytes + needed > limit:
            lesser = [
                other
                for other in self._live
                if other.generator is not None
                and other not in chosen.sequences
                and other.request.priority > sequence.request.priority
            ]
            if not lesser:
                return False
            self._preempt(max(lesser, key=lambda other: (other.request.priority, other.number)))
        sequence.reserved_bytes = needed
        infiller.set_capacity(limit - self._reserved_bytes, wanted)
        sequence.generator = infiller.generate(
            sequence.request.gap, wanted, sequence.request.sampling
        )
        self._resume(sequence, None)
        if sequence.call is not None and sequence.call.kv.nbytes > needed:  # it has room for more
            sequence.reserved_bytes = sequence.call.kv.nbytes
            infiller.set_capacity(limit - self._reserved_bytes)
        return True

    def _resume(self, sequence: InfillSequence, answer: Predictions | Exception | None) -> None:
        """Run a sequence up to its next call."""
        assert sequence.generator is not None
        sequence.call = None
        try:
            step = advance(sequence.generator, answer)
            while isinstance(step, PartialOutput):
                sequence.reading = not step.ids
                if step.steps >= sequence.draft.steps:  # what was put back begins again
                    sequence.draft = step
                if step.finished:
                    self._end(sequence, Outcome.FINISHED)
                    return
                step = advance(sequence.generator)
        except Exception as error:  # the boundary of a request: it ends this one, not the engine
            self._fail(sequence, error)
            return
        assert isinstance(step, ForwardCall)
        sequence.call = step

    def _fail(self, sequence: InfillSequence, error: Exception) -> None:
        sequence.error = error
        self._end(sequence, Outcome.FAILED)

    def _end(self, sequence: InfillSequence, outcome: Outcome) -> None:
        sequence.outcome = outcome
        self._preempt(sequence)
        self._live.remove(sequence)
        with self._lock:
            self._held[sequence.request.priority] -= 1

    def _preempt(self, sequence: InfillSequence) -> None:
        """Release the context of a sequence; it is cached while there is room."""
        generator, sequence.generator, sequence.call = sequence.generator, None, None
        sequence.reading, sequence.reserved_bytes = True, 0
        self._infiller.set_capacity(self._limits.context_bytes - self._reserved_bytes)
        if generator is not None:
            generator.close()

    @property
    def _reserved_bytes(self) -> int:
        return sum(sequence.reserved_bytes for sequence in self._live)
