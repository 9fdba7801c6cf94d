"""Submitted requests: futures for what the engine answers in shared passes.

Knows no lock: `ModelService` calls it under its own. Passes are made outside of that lock.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mercury_lsp.service.turns import Turn
from mercury_model.decoding.output import PartialOutput
from mercury_model.serving import Engine, InfillRequest, InfillSequence, Outcome

Watch: TypeAlias = Callable[[PartialOutput], None]
"""Is shown each draft, on the service's thread."""


@dataclass(slots=True, eq=False)
class Submission:
    """A request and the future of its last draft."""

    request: InfillRequest
    arrived_ns: int
    watch: Watch
    key: Hashable
    future: Future[PartialOutput] = field(default_factory=Future)


class Submissions:
    """The requests that wait for the engine, and those that it works on."""

    def __init__(self) -> None:
        self._waiting: deque[Submission] = deque()
        self._running: dict[InfillSequence, Submission] = {}
        self._since_ns = 0

    @property
    def busy(self) -> bool:
        """Whether the engine works on one."""
        return bool(self._running)

    @property
    def waiting(self) -> int:
        """How many are not answered."""
        return len(self._waiting) + len(self._running)

    def add(self, submission: Submission) -> None:
        """Take on a request, which waits for `admit`."""
        self._waiting.append(submission)

    def admit(self, engine: Engine, now_ns: int) -> None:
        """Hand what waits to the engine. A request that it refuses fails."""
        while self._waiting:
            one = self._waiting.popleft()
            if one.future.cancelled():
                continue
            if not self._running:
                self._since_ns = now_ns
            request = one.request
            if request.within_ms is not None:  # the time it waited for a model counts, too
                left_ms = request.within_ms - (now_ns - one.arrived_ns) / 1e6
                request = replace(request, within_ms=max(0.0, left_ms))
            try:
                sequence = engine.submit(request)
            except Exception as error:  # too many at once: it is refused, and the others go on
                _resolve(one.future, error)
                continue
            self._running[sequence] = one

    def turn(self, take: Callable[[], None]) -> list[Turn]:
        """The next pass, if the engine has work; it is as urgent as its most urgent request."""
        if not self._running:
            return []
        requests = [one.request.priority for one in self._running.values()]
        deadlines = [
            sequence.deadline_ns
            for sequence, one in self._running.items()
            if sequence.deadline_ns is not None and one.request.priority == min(requests)
        ]
        deadline = min(deadlines, default=None)
        return [Turn(min(requests), deadline, self._since_ns, 0, take)]

    def served(self, now_ns: int) -> None:
        """A pass was made; the next one is waited for from now on."""
        self._since_ns = now_ns

    def supersede(self, key: Hashable, error: Exception) -> None:
        """Fail the requests with this key; None is no key."""
        for one in [*self._waiting, *self._running.values()]:
            if key is not None and one.key == key:
                _resolve(one.future, error)
        self.sweep()

    def cancel(self, client: Hashable) -> None:
        """End the requests of a client with what they have come to."""
        for one in self._waiting:
            if one.request.client == client:
                one.future.cancel()
        for sequence, one in self._running.items():
            if one.request.client == client:
                sequence.cancel()

    def fail(self, error: Exception) -> None:
        """Fail all that waits."""
        while self._waiting:
            _resolve(self._waiting.popleft().future, error)

    def fail_all(self, error: Exception) -> None:
        """Fail everything, the requests that run included."""
        self.fail(error)
        for one in self._running.values():
            _resolve(one.future, error)
        self._running.clear()

    def close(self) -> None:
        """Cancel everything; requests of cancelled clients end with what they have come to."""
        for sequence, one in self._running.items():
            if sequence.stopped:
                _resolve(one.future, sequence.draft)
        for one in [*self._waiting, *self._running.values()]:
            one.future.cancel()
        self._waiting.clear()
        self._running.clear()

    def news(self, sequences: Sequence[InfillSequence]) -> list[tuple[InfillSequence, Submission]]:
        """The submissions of which a pass has news; those that have ended leave."""
        news = [(sequence, self._running[sequence]) for sequence in sequences]
        for sequence in sequences:
            if sequence.outcome is not None:
                del self._running[sequence]
        return news

    def sweep(self) -> None:
        """Take no further call for requests whose futures were cancelled or failed."""
        for sequence, one in self._running.items():
            if one.future.done():
                sequence.cancel()


def tell(sequence: InfillSequence, one: Submission) -> None:
    """Pass on the news of a sequence. Not under the lock: it calls `watch` and callbacks."""
    error = sequence.error
    if sequence.outcome is not Outcome.CANCELLED and not one.future.done():
        try:
            one.watch(sequence.draft)
        except Exception as raised:  # an error of the watcher reaches whoever waits
            error = raised
    if error is not None:
        _resolve(one.future, error)
    elif sequence.outcome is not None:
        _resolve(one.future, sequence.draft)


def _resolve(future: Future[PartialOutput], result: PartialOutput | Exception) -> None:
    """Answer whoever still waits."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
