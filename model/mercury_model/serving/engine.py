"""The dynamic batching engine: what many infills ask of the network, asked in shared passes.

Each step ends what is over, chooses whose calls go into the next pass, makes it, and lets the
infills go on with their answers. One thread takes the steps; orders come from any. Knows no text;
the clock is an argument.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mercury_model.decoding.call_generator import advance
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.prompt import PromptTokenizer
from mercury_model.errors import InsufficientMemory, Overloaded
from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime
from mercury_model.serving.cost_model import CostModel
from mercury_model.serving.request import InfillRequest, InfillSequence, Outcome, Priority
from mercury_model.serving.scheduler import Scheduler
from mercury_model.spec.card import ModelCard


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much the engine takes on.

    `requests` of each priority are held at a time; more are refused. `context_bytes` bounds all
    keys and values, of the infills under way and of those kept for later ones. Calls are added to
    a pass while it is expected to take no more than `pass_ms`: it bounds the time to cancel, and
    how long a key waits for what is less urgent. A priority goes on every `patience_ms` at least,
    whatever is more urgent.
    """

    requests: int = 256
    context_bytes: int = 512 << 20
    pass_ms: float = 120.0
    patience_ms: float = 1_000.0


@dataclass(slots=True)
class _Pass:
    """Jobs whose calls are made together."""

    jobs: list[InfillSequence] = field(default_factory=list)
    rows: int = 0


class Engine:
    """Fills many gaps with one model. Raises ValueError for limits that let nothing through."""

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
        self._infiller = Infiller(card, tokenizer, runtime, limits.context_bytes)
        self._turns = Scheduler(round(limits.patience_ms * 1e6), runtime.max_batch_size)
        self._pace = CostModel()
        self._lock = threading.Lock()
        self._held: Counter[Priority] = Counter()
        self._arrived: list[InfillSequence] = []
        self._live: list[InfillSequence] = []
        self._number = 0

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._arrived or self._live)

    @property
    def infiller(self) -> Infiller:
        """Answers one request alone, over the same contexts; only between two steps."""
        return self._infiller

    def set_limits(self, limits: EngineLimits) -> None:
        """Hold as many requests and as much context as `limits` say. Only between two steps."""
        held = replace(self._limits, requests=limits.requests, context_bytes=limits.context_bytes)
        self._limits = held
        self._infiller.bound(held.context_bytes - self._reserved_bytes)

    @property
    def context_bytes(self) -> int:
        """Memory of all contexts, those reserved for infills under way included."""
        return self._infiller.kept_bytes + self._reserved_bytes

    def submit(self, order: InfillRequest) -> InfillSequence:
        """Take on an order. From any thread. Raises Overloaded if too many are held already."""
        now_ns = self._clock()
        within_ns = None if order.within_ms is None else round(order.within_ms * 1e6)
        with self._lock:
            if self._held[order.priority] >= self._limits.requests:
                raise Overloaded(
                    f"{self._limits.requests} requests of priority {order.priority.name.lower()}"
                    " wait or are under way, as many as the engine holds.",
                    "Ask again when some are done, or raise the limit of requests.",
                )
            self._held[order.priority] += 1
            self._number += 1
            deadline_ns = None if within_ns is None else now_ns + within_ns
            job = InfillSequence(order, self._number, now_ns, deadline_ns)
            self._arrived.append(job)
        return job

    def step(self) -> list[InfillSequence]:
        """Make at most one pass; the jobs of which there is news, each once."""
        with self._lock:
            self._live += self._arrived
            self._arrived = []
        now_ns = self._clock()
        before = [(job, job.draft) for job in self._live]
        for job in list(self._live):
            if job.stopped:
                self._end(job, Outcome.CANCELLED)
            elif job.deadline_ns is not None and job.deadline_ns <= now_ns:
                self._end(job, Outcome.EXPIRED)
        chosen = self._choose(now_ns)
        if chosen.jobs:
            answers = self._make(chosen)
            for job, answer in zip(chosen.jobs, answers, strict=True):
                self._go_on(job, answer)
        return [job for job, draft in before if job.outcome or job.draft is not draft]

    def _choose(self, now_ns: int) -> _Pass:
        """The calls of the next pass, and no more than it should take."""
        chosen, full = _Pass(), False
        for job in self._turns.order(self._live, now_ns):
            if len(chosen.jobs) == self._runtime.max_batch_size:
                break
            if job.script is None and not full:
                try:
                    full = not self._begin(job, chosen)
                except Exception as error:  # a gap that is no text, say: it ends this request
                    self._fail(job, error)
            if job.call is not None and self._fits(job, chosen, now_ns):
                chosen.jobs.append(job)
                chosen.rows += len(job.call.ids)
        return chosen

    def _fits(self, job: InfillSequence, chosen: _Pass, now_ns: int) -> bool:
        """Whether a pass with one call more ends in time, for it and for those in it already."""
        assert job.call is not None
        if not chosen.jobs:
            return True
        expected_ns = self._pace.expected_ns(chosen.rows + len(job.call.ids))
        allowed_ns = self._limits.pass_ms * 1e6
        for one in (*chosen.jobs, job):
            if one.deadline_ns is None or one.call is None:
                continue
            left_ns = one.deadline_ns - now_ns
            if self._pace.expected_ns(len(one.call.ids)) <= left_ns:  # else it is late anyway
                allowed_ns = min(allowed_ns, left_ns)
        return expected_ns <= allowed_ns

    def _make(self, chosen: _Pass) -> Sequence[Predictions | Exception]:
        """Make a pass. What goes wrong in it goes wrong for all of its calls."""
        calls = [job.call for job in chosen.jobs if job.call is not None]
        began_ns = self._clock()
        try:
            answers: Sequence[Predictions | Exception] = self._runtime.forward_batch(calls)
        except Exception as error:  # each infill has to let go of its context, and say why
            answers = [error] * len(calls)
        ended_ns = self._clock()
        self._pace.saw(chosen.rows, ended_ns - began_ns)
        self._turns.served(chosen.jobs, ended_ns)
        return answers

    def _begin(self, job: InfillSequence, chosen: _Pass) -> bool:
        """Let a job have a context, if there is memory for one; whether there was.

        What is less urgent, and not chosen, gives way: it begins again later.
        """
        infiller, limit = self._infiller, self._limits.context_bytes
        wanted = job.wanted = job.wanted or infiller.fim_context(job.order.gap)
        needed = self._runtime.kv_bytes(infiller.most_tokens(wanted, job.order.sampling))
        if needed > limit:
            self._fail(
                job,
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
                if other.script is not None
                and other not in chosen.jobs
                and other.order.priority > job.order.priority
            ]
            if not lesser:
                return False
            self._put_back(max(lesser, key=lambda other: (other.order.priority, other.number)))
        job.reserved_bytes = needed
        infiller.set_capacity(limit - self._reserved_bytes, wanted)
        job.script = infiller.script(job.order.gap, wanted, job.order.sampling)
        self._go_on(job, None)
        if job.call is not None and job.call.kv.nbytes > needed:  # it has room for more
            job.reserved_bytes = job.call.kv.nbytes
            infiller.set_capacity(limit - self._reserved_bytes)
        return True

    def _go_on(self, job: InfillSequence, answer: Predictions | Exception | None) -> None:
        """Let a job run up to its next call."""
        assert job.script is not None
        job.call = None
        try:
            step = advance(job.script, answer)
            while isinstance(step, PartialOutput):
                job.reading = not step.ids
                if step.steps >= job.draft.steps:  # what was put back begins again
                    job.draft = step
                if step.finished:
                    self._end(job, Outcome.FINISHED)
                    return
                step = advance(job.script)
        except Exception as error:  # the boundary of a request: it ends this one, not the engine
            self._fail(job, error)
            return
        assert isinstance(step, ForwardCall)
        job.call = step

    def _fail(self, job: InfillSequence, error: Exception) -> None:
        job.error = error
        self._end(job, Outcome.FAILED)

    def _end(self, job: InfillSequence, outcome: Outcome) -> None:
        job.outcome = outcome
        self._put_back(job)
        self._live.remove(job)
        with self._lock:
            self._held[job.order.priority] -= 1

    def _put_back(self, job: InfillSequence) -> None:
        """Take a job's context from it; what it holds is kept while there is room."""
        script, job.script, job.call = job.script, None, None
        job.reading, job.reserved_bytes = True, 0
        self._infiller.set_capacity(self._limits.context_bytes - self._reserved_bytes)
        if script is not None:
            script.close()

    @property
    def _reserved_bytes(self) -> int:
        return sum(job.reserved_bytes for job in self._live)
