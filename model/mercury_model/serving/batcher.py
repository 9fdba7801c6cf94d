"""The engine with a thread of its own: orders from any thread, answers as futures."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from mercury_model.decoding.output import PartialOutput
from mercury_model.load import LoadedModel
from mercury_model.serving.engine import Engine, EngineLimits
from mercury_model.serving.request import InfillRequest, InfillSequence, Outcome


def _unwatched(_draft: PartialOutput) -> None:
    """Nobody looks at drafts."""


class DynamicBatcher:
    """Fills gaps for many at once with one model, which only its thread touches.

    Without anything to do the thread sleeps. `close` it, or use it in a `with` block, to end it.
    """

    def __init__(
        self,
        model: LoadedModel,
        limits: EngineLimits | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._engine = Engine(
            model.card, model.tokenizer, model.runtime, limits or EngineLimits(), clock
        )
        self._wake = threading.Condition()
        self._asked: dict[
            InfillSequence, tuple[Future[PartialOutput], Callable[[PartialOutput], None]]
        ] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(
        self, order: InfillRequest, watch: Callable[[PartialOutput], None] = _unwatched
    ) -> "Future[PartialOutput]":
        """The last draft for an order, in a future; one that ran out of time is not finished.

        Cancelling the future stops the infill before its next call. `watch` sees each draft on the
        model's thread. Raises Overloaded when too much is asked already, RuntimeError once closed.
        """
        future: Future[PartialOutput] = Future()
        with self._wake:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            job = self._engine.submit(order)
            self._asked[job] = future, watch
            self._wake.notify()
        future.add_done_callback(lambda _: job.cancel())
        return future

    def close(self) -> None:
        """Stop after the pass that runs; what is not done yet is cancelled."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while self._has_work():
            for job in self._engine.step():
                self._tell(job)
        for future, _ in self._asked.values():
            future.cancel()
        self._asked.clear()

    def _has_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._engine.busy or self._closed)
            return not self._closed

    def _tell(self, job: InfillSequence) -> None:
        future, watch = self._asked[job]
        error = job.error
        if job.outcome is not Outcome.CANCELLED:
            try:
                watch(job.draft)
            except Exception as raised:  # it is of whoever watches, and reaches whoever waits
                error = raised
        if job.outcome is not None:
            with self._wake:
                del self._asked[job]
        if future.done() or not (job.outcome or error):
            return
        if not future.set_running_or_notify_cancel():  # from now on it cannot be cancelled
            return
        if error is not None:
            future.set_exception(error)  # and with it the job is cancelled
        else:
            future.set_result(job.draft)
