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

from mercury_lsp.lsp.faults import describe

log = logging.getLogger(__name__)

T = TypeVar("T")
Stopped = Callable[[], bool]


class Superseded(Exception):
    """A newer request of the same document took this one's place, or the worker was closed."""


@dataclass(slots=True, eq=False)
class _Job:
    """A job that somebody waits for."""

    key: Hashable
    job: Callable[[Stopped], Any]
    future: Future[Any] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True, eq=False)
class _IdleJob:
    """A job that nobody waits for; `dropped` once nobody wants it any more."""

    key: Hashable
    job: Callable[[Stopped], bool]
    dropped: bool = False


class Worker:
    """Runs jobs one at a time, in the order they came."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._idle: OrderedDict[Hashable, _IdleJob] = OrderedDict()
        self._running: _Job | _IdleJob | None = None
        self._closed = False
        # A daemon, since a job may be deep in a library when the process is told to end.
        self._thread: Final = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    async def submit(self, key: Hashable, job: Callable[[Stopped], T]) -> T:
        """The result of `job`, whose predecessors of the same `key` are stopped.

        Raises Superseded when a later call did that to this one, and what `job` raises. Cancelling
        the call stops the job at its next step.
        """
        ticket = _Job(key, job)
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
            self._drop(key)
            if not self._closed:
                self._idle[key] = _IdleJob(key, job)
                self._condition.notify()

    def forget(self, key: Hashable) -> None:
        """Stop whatever is asked or planned for `key`."""
        with self._condition:
            self._supersede(key)
            self._drop(key)

    def close(self) -> None:
        """Stop everything; jobs that wait end as superseded, like the one that runs."""
        with self._condition:
            self._closed = True
            for key in {ticket.key for ticket in self._tickets()}:
                self._supersede(key)
            self._idle.clear()
            self._condition.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the step that is running; whether the thread has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _tickets(self) -> list[_Job]:
        running = [self._running] if isinstance(self._running, _Job) else []
        return [*self._waiting, *running]

    def _supersede(self, key: Hashable) -> None:
        for ticket in self._tickets():
            if ticket.key == key:
                ticket.stop.set()
                _resolve(ticket, Superseded())
        self._waiting = deque(ticket for ticket in self._waiting if ticket.key != key)

    def _drop(self, key: Hashable) -> None:
        self._idle.pop(key, None)
        if isinstance(self._running, _IdleJob) and self._running.key == key:
            self._running.dropped = True

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, _Job):
                self._do(work)
            else:
                self._do_errand(work)
            # What the last job held on to, a whole document perhaps, must not wait for the next.
            del work

    def _next(self) -> _Job | _IdleJob | None:
        with self._condition:
            self._running = None
            self._condition.wait_for(lambda: self._waiting or self._idle or self._closed)
            if self._closed:
                return None
            if self._waiting:
                self._running = self._waiting.popleft()
            else:
                self._running = self._idle.popitem()[1]
            return self._running

    def _do(self, ticket: _Job) -> None:
        if ticket.stop.is_set():
            return
        result: Any
        try:
            result = ticket.job(ticket.stop.is_set)
        except Exception as error:  # the request boundary: it ends this request, not the thread
            result = error
        with self._condition:
            _resolve(ticket, result)

    def _do_errand(self, errand: _IdleJob) -> None:
        def stopped() -> bool:
            return bool(self._waiting) or self._closed or errand.dropped

        try:
            done = errand.job(stopped)
        except Exception as error:  # the boundary of work that nobody asked for
            log.error("idle work failed: %s", describe(error))
            done = True
        with self._condition:
            if not done and not errand.dropped and not self._closed:
                self._idle.setdefault(errand.key, errand)


def _resolve(ticket: _Job, result: Any) -> None:
    """Answer whoever still waits."""
    if ticket.future.done() or not ticket.future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        ticket.future.set_exception(result)
    else:
        ticket.future.set_result(result)
