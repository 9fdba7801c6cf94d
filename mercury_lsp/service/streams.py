"""Pulled requests: a stream takes a step only while its consumer waits for the result.

Knows no lock: `ModelService` calls it under its own. Steps are taken outside of that lock.
"""

from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from mercury_lsp.service.turns import Turn
from mercury_lsp.service.values import RequestOptions
from mercury_model.serving import Engine, Priority

Begin: TypeAlias = Callable[[Engine], Generator[Any, None, None]]
"""Begins a stream's steps on the service's thread."""

END: Final = object()
"""The answer behind a stream's last item."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer of a stream that failed."""

    error: Exception


@dataclass(slots=True, eq=False)
class Stream:
    """A pulled request.

    `wanted`: its consumer waits for the next item. `held`: it was answered a moment ago, and its
    consumer probably asks again at once. `over`: no further step is taken.
    """

    begin: Begin
    options: RequestOptions
    number: int
    since_ns: int
    answers: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    steps: Generator[Any, None, None] | None = None
    wanted: bool = False
    held: bool = False
    over: bool = False
    error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """Take no further step; the consumer gets `error`, or the end of its iterator."""
        if not self.over:
            self.over, self.error = True, error

    def want(self, now_ns: int) -> None:
        """The consumer waits for the next item from now on."""
        self.wanted, self.held, self.since_ns = True, False, now_ns

    def answer(self, item: Any) -> None:
        """Hand an item to the consumer."""
        self.wanted, self.held = False, True
        self.answers.put(item)

    @property
    def last_answer(self) -> Any:
        """What the consumer of a stream that is over gets."""
        return END if self.error is None else Failure(self.error)


class Streams:
    """All streams that are not over."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self._number = 0

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams)

    def add(self, begin: Begin, options: RequestOptions, now_ns: int) -> Stream:
        """A new stream."""
        self._number += 1
        stream = Stream(begin, options, self._number, now_ns)
        self._streams.append(stream)
        return stream

    def supersede(self, key: Hashable, error: Exception) -> None:
        """End the streams with this key; None is no key."""
        for stream in self._streams:
            if key is not None and stream.options.key == key:
                stream.end(error)

    def cancel(self, client: Hashable) -> None:
        """End the streams of a client."""
        for stream in self._streams:
            if stream.options.client == client:
                stream.end()

    def end(self, error: Exception | None = None) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.end(error)

    def sweep(self) -> None:
        """Free what streams that are over hold. Only on the service's thread, between two steps."""
        for stream in self._streams:
            if stream.over:
                if stream.steps is not None:
                    stream.steps.close()
                if stream.wanted:
                    stream.answer(stream.last_answer)
        self._streams = [stream for stream in self._streams if not stream.over]

    def turns(self, take: Callable[[Stream], None], *, begun: bool) -> list[Turn]:
        """The steps that consumers wait for; with `begun`, only of streams that took one before."""
        return [
            Turn(
                stream.options.priority,
                stream.options.deadline_ns,
                stream.since_ns,
                stream.number,
                partial(take, stream),
            )
            for stream in self._streams
            if stream.wanted and (stream.steps is not None or not begun)
        ]

    def holds(self, priority: Priority | None) -> bool:
        """Whether work of `priority` waits for a consumer of something more urgent."""
        return any(
            stream.held and (priority is None or stream.options.priority < priority)
            for stream in self._streams
        )

    def release(self) -> bool:
        """Wait for no consumer any longer; whether one was waited for."""
        held = [stream for stream in self._streams if stream.held]
        for stream in held:
            stream.held = False
        return bool(held)

    @property
    def waiting(self) -> int:
        """How many consumers wait."""
        return sum(stream.wanted for stream in self._streams)

    @property
    def begun(self) -> list[Stream]:
        """The streams that have taken a step with the loaded model."""
        return [stream for stream in self._streams if stream.steps is not None]
