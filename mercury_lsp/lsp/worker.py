"""The thread of the pipeline: one job at a time, and the newest request of a document wins.

Knows no protocol and no model: a job is a function that is told whether to stop. Idle jobs run
while nobody waits, and give way as soon as somebody asks.
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
from mercury_lsp.service import Superseded

log = logging.getLogger(__name__)

T = TypeVar("T")
Stopped = Callable[[], bool]


@dataclass(slots=True, eq=False)
class _Request:
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
        self._waiting: deque[_Request] = deque()
        self._idle: OrderedDict[Hashable, _IdleJob] = OrderedDict()
        self._running: _Request | _IdleJob | None = None
        self._closed = False
        # A daemon: a job may wait for a long step of the model when the process is told to end.
        self._thread: Final = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    async def submit(self, key: Hashable, job: Callable[[Stopped], T]) -> T:
        """The result of `job`. Earlier jobs of the same `key` are stopped.

        Raises Superseded when a later call stops this one, and what `job` raises. Cancelling the
        call stops the job before its next step.
        """
        request = _Request(key, job)
        with self._condition:
            if self._closed:
                raise Superseded
            self._supersede(key)
            self._waiting.append(request)
            self._condition.notify()
        try:
            result: T = await asyncio.wrap_future(request.future)
            return result
        finally:
            request.stop.set()

    def idle(self, key: Hashable, job: Callable[[Stopped], bool]) -> None:
        """Do `job` while nobody waits, in place of an earlier one of the same `key`, newest first.

        It returns whether it is done; a job that was stopped before is called again later.
        """
        with self._condition:
            self._drop(key)
            if not self._closed:
                self._idle[key] = _IdleJob(key, job)
                self._condition.notify()

    def forget(self, key: Hashable) -> None:
        """Stop everything for `key`."""
        with self._condition:
            self._supersede(key)
            self._drop(key)

    def close(self) -> None:
        """Stop everything: the running job and those that wait are superseded."""
        with self._condition:
            self._closed = True
            for key in {request.key for request in self._asked()}:
                self._supersede(key)
            self._idle.clear()
            self._condition.notify()

    def join(self, seconds: float) -> bool:
        """Wait until the thread has ended; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _asked(self) -> list[_Request]:
        running = [self._running] if isinstance(self._running, _Request) else []
        return [*self._waiting, *running]

    def _supersede(self, key: Hashable) -> None:
        for request in self._asked():
            if request.key == key:
                request.stop.set()
                _resolve(request, Superseded())
        self._waiting = deque(request for request in self._waiting if request.key != key)

    def _drop(self, key: Hashable) -> None:
        self._idle.pop(key, None)
        if isinstance(self._running, _IdleJob) and self._running.key == key:
            self._running.dropped = True

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, _Request):
                self._do(work)
            else:
                self._do_idle_job(work)
            # It may hold a whole document, which must not be kept until the next job comes.
            del work

    def _next(self) -> _Request | _IdleJob | None:
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

    def _do(self, request: _Request) -> None:
        if request.stop.is_set():
            return
        result: Any
        try:
            result = request.job(request.stop.is_set)
        except Exception as error:  # the request boundary: it ends this request, not the thread
            result = error
        with self._condition:
            _resolve(request, result)

    def _do_idle_job(self, idle_job: _IdleJob) -> None:
        def stopped() -> bool:
            return bool(self._waiting) or self._closed or idle_job.dropped

        try:
            done = idle_job.job(stopped)
        except Exception as error:  # the boundary of work that no request waits for
            log.error("idle work failed: %s", describe(error))
            done = True
        with self._condition:
            if not done and not idle_job.dropped and not self._closed:
                self._idle.setdefault(idle_job.key, idle_job)


def _resolve(request: _Request, result: Any) -> None:
    """Answer whoever still waits."""
    if request.future.done() or not request.future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        request.future.set_exception(result)
    else:
        request.future.set_result(result)
