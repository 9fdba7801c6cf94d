"""The one thread that touches the model. The newest request of a document wins.

Knows no protocol and no model: a job is a function that is told whether to stop. While nothing
is asked the thread sleeps; what is worth doing meanwhile is done in `idle` jobs, which give way
as soon as somebody asks.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Stopped = Callable[[], bool]


class Superseded(Exception):
    """A newer request of the same document took this one's place."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """A job that somebody waits for."""

    key: Hashable
    job: Callable[[Stopped], Any]
    future: Future[Any] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False


class Worker:
    """Runs jobs one at a time, in the order they came."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._running: _Ticket | None = None
        self._idle: OrderedDict[Hashable, Callable[[Stopped], bool]] = OrderedDict()
        self._closed = False
        # A daemon, since a job may be deep in a library when the process is told to end.
        self._thread: Final = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    async def submit(self, key: Hashable, job: Callable[[Stopped], T]) -> T:
        """The result of `job`, whose predecessors of the same `key` are stopped.

        Raises Superseded when a later call did that to this one. Cancelling the call stops the job
        at its next step.
        """
        ticket = _Ticket(key, job)
        with self._condition:
            if self._closed:
                raise Superseded
            self._supersede(key)
            self._waiting.append(ticket)
            self._condition.notify()
        try:
            result: T = await asyncio.wrap_future(ticket.future)
            return result
        finally:
            ticket.stop.set()

    def idle(self, key: Hashable, job: Callable[[Stopped], bool]) -> None:
        """Do `job` when nobody waits, in place of an earlier one of the same `key`, newest first.

        It returns whether it is done; if it was stopped before that, it is called again later.
        """
        with self._condition:
            self._idle[key] = job
            self._idle.move_to_end(key)
            self._condition.notify()

    def forget(self, key: Hashable) -> None:
        """Stop whatever is asked or planned for `key`."""
        with self._condition:
            self._supersede(key)
            self._idle.pop(key, None)

    def close(self) -> None:
        """Stop everything; jobs that wait end as superseded."""
        with self._condition:
            self._closed = True
            for ticket in [*self._waiting, *([self._running] if self._running else [])]:
                self._stop(ticket)
            self._idle.clear()
            self._condition.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the step that is running; whether the thread has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _supersede(self, key: Hashable) -> None:
        running = [self._running] if self._running is not None else []
        for ticket in [*self._waiting, *running]:
            if ticket.key == key:
                self._stop(ticket)

    def _stop(self, ticket: _Ticket) -> None:
        ticket.superseded = True
        ticket.stop.set()
        if ticket is not self._running:
            self._waiting.remove(ticket)
            _resolve(ticket, Superseded())

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._waiting or self._idle or self._closed):
                    self._condition.wait()
                if self._closed:
                    return
                ticket = self._running = self._waiting.popleft() if self._waiting else None
                idle = None if ticket else self._idle.popitem()
            if ticket is not None:
                self._do(ticket)
            elif idle is not None:
                self._do_idle(*idle)

    def _do(self, ticket: _Ticket) -> None:
        result: Any = None
        if not ticket.stop.is_set():
            try:
                result = ticket.job(ticket.stop.is_set)
            except Exception as error:  # the request boundary: it ends this request, not the thread
                log.error("a request failed: %s", _describe(error))
                result = error
        with self._condition:
            self._running = None
        _resolve(ticket, Superseded() if ticket.superseded else result)

    def _do_idle(self, key: Hashable, job: Callable[[Stopped], bool]) -> None:
        def stopped() -> bool:
            return bool(self._waiting) or self._closed or key in self._idle

        try:
            done = job(stopped)
        except Exception as error:  # the boundary of work that nobody asked for
            log.error("idle work failed: %s", _describe(error))
            done = True
        with self._condition:
            if not done and not self._closed:
                self._idle.setdefault(key, job)


def _resolve(ticket: _Ticket, result: Any) -> None:
    """Answer whoever still waits."""
    if not ticket.future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        ticket.future.set_exception(result)
    else:
        ticket.future.set_result(result)


def _describe(error: Exception) -> str:
    """What may be logged: a message could hold source text, a place in our code cannot."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname} ({code.co_filename}:{trace.tb_lineno})"
