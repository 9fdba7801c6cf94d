"""The engine on a thread of its own: requests from any thread, answers as futures."""

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
    """Nobody watches the drafts."""


class DynamicBatcher:
    """Fills many gaps at once with one model, which only the batcher's thread touches.

    An idle thread sleeps. `close` the batcher, or use it in a `with` block, to end the thread.
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
        self, request: InfillRequest, watch: Callable[[PartialOutput], None] = _unwatched
    ) -> "Future[PartialOutput]":
        """The last draft for a request, in a future; it is not finished if time ran out.

        Cancelling the future stops the infill before its next call. `watch` sees each draft on the
        model's thread. Raises Overloaded if the engine is full, RuntimeError if the batcher is
        closed.
        """
        future: Future[PartialOutput] = Future()
        with self._wake:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            sequence = self._engine.submit(request)
            self._asked[sequence] = future, watch
            self._wake.notify()
        future.add_done_callback(lambda _: sequence.cancel())
        return future

    def close(self) -> None:
        """Stop after the current pass; unfinished requests are cancelled."""
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
            for sequence in self._engine.step():
                self._tell(sequence)
        for future, _ in self._asked.values():
            future.cancel()
        self._asked.clear()

    def _has_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._engine.busy or self._closed)
            return not self._closed

    def _tell(self, sequence: InfillSequence) -> None:
        future, watch = self._asked[sequence]
        error = sequence.error
        if sequence.outcome is not Outcome.CANCELLED:
            try:
                watch(sequence.draft)
            except Exception as raised:  # an error of `watch` reaches whoever awaits the future
                error = raised
        if sequence.outcome is not None:
            with self._wake:
                del self._asked[sequence]
        if future.done() or not (sequence.outcome or error):
            return
        if not future.set_running_or_notify_cancel():  # from now on it cannot be cancelled
            return
        if error is not None:
            future.set_exception(error)  # and with it the sequence is cancelled
        else:
            future.set_result(sequence.draft)
