"""`ModelService`: holds one loaded model, and is the only code that touches it."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mercury_lsp.service.slot import LoadRequest, ModelSlot, unseen
from mercury_lsp.service.streams import END, Begin, Failure, Stream, Streams
from mercury_lsp.service.submissions import Submission, Submissions, Watch, tell
from mercury_lsp.service.turns import most_urgent
from mercury_lsp.service.values import (
    Load,
    ModelInfo,
    ModelSettings,
    Progress,
    RequestOptions,
    ServiceClosed,
    Superseded,
)
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.serving import InfillRequest

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)

HOLD_SECONDS = 0.005
"""How long less urgent work waits for the consumer of a more urgent draft to ask for the next one.
A consumer needs about a millisecond between two steps; without this pause, a long pass for somebody
else would begin in between."""

DRAIN_SECONDS = 1.0
"""How long a reload waits for a consumer that has begun to read drafts and does not go on."""

_DEFAULTS = RequestOptions()


def _unwatched(_output: PartialOutput) -> None:
    """Nobody looks at drafts."""


class ModelService:
    """Owns at most one loaded model and the one thread on which the model runs.

    Requests may come from any thread. Requests made while a model is being loaded or replaced wait
    for it; streams that have begun are finished with the model they began with. `close` ends the
    thread.
    """

    def __init__(self, load: Load, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._wake = threading.Condition()
        self._streams = Streams()
        self._submissions = Submissions()
        self._slot = ModelSlot(load, clock)
        self._closed = False
        # A daemon: a step may be deep in a library when the process is told to end.
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def info(self) -> ModelInfo | None:
        """The loaded model; None while there is none."""
        loaded = self._slot.loaded
        return None if loaded is None else loaded.info

    @property
    def waiting(self) -> int:
        """How many requests wait for a step, a pass or a model."""
        with self._wake:
            return self._streams.waiting + self._submissions.waiting

    def load(
        self, settings: ModelSettings, progress: Progress = unseen
    ) -> "Future[ModelInfo | None]":
        """Load a model in place of another; at once if it is loaded already.

        The future raises ModelError when the weights cannot be loaded; requests that wait for them
        fail with the same error. `progress` is called on the service's thread.
        """
        return self._ask(LoadRequest(settings, progress))

    def unload(self) -> "Future[ModelInfo | None]":
        """Free the model. Later requests fail until another is loaded."""
        return self._ask(LoadRequest(None))

    def drafts(
        self, prompt: FimPrompt, params: SamplingParams, options: RequestOptions = _DEFAULTS
    ) -> Generator[PartialOutput, None, None]:
        """Ever longer drafts, at most one call of the network each; the last one is finished.

        Not asking for the next draft cancels the request; closing the iterator frees what it holds.
        It ends early when the deadline is over or the request is stopped. Raises Superseded when a
        newer request has the same key, ModelError when there is no model, ValueError for a prompt
        or parameters that the model cannot use. With a deadline, a model with a quick window reads
        that one if there is no time for the full one.
        """
        return self._pull(
            lambda engine: engine.drafts(prompt, params, options.deadline_ns), options
        )

    def prefill(
        self, prompt: FimPrompt, options: RequestOptions = _DEFAULTS
    ) -> Generator[int, None, None]:
        """Read a prompt ahead of its request; yields how many tokens are left after each chunk.

        The quick window comes first, if the model has one. Stopping early loses nothing. Raises
        what `drafts` raises.
        """
        return self._pull(lambda engine: engine.prefill(prompt), options)

    def submit(
        self, request: InfillRequest, watch: Watch = _unwatched, key: Hashable = None
    ) -> "Future[PartialOutput]":
        """The last draft for a request that shares passes of the network with others.

        A request that runs out of time is not finished. Cancelling the future stops it before its
        next call; `watch` sees each draft on the service's thread. The future raises Overloaded
        when the engine holds too many requests, Superseded when a newer request has the same key.
        """
        one = Submission(request, self._clock(), watch, key)
        with self._wake:
            self._require_open()
            self._supersede(key)
            self._submissions.add(one)
            self._wake.notify()
        return one.future

    def cancel(self, client: Hashable) -> None:
        """End the requests of a client before their next step, with what they have come to."""
        with self._wake:
            self._streams.cancel(client)
            self._submissions.cancel(client)
            self._wake.notify()

    def close(self) -> None:
        """End everything after the step that runs. No request can be made afterwards."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def join(self, seconds: float | None = None) -> bool:
        """Wait until the thread has ended; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, request: LoadRequest) -> "Future[ModelInfo | None]":
        with self._wake:
            self._require_open()
            self._slot.requests.append(request)
            self._wake.notify()
        return request.future

    def _require_open(self) -> None:
        if self._closed:
            raise ServiceClosed("the model service is closed")

    def _supersede(self, key: Hashable) -> None:
        self._streams.supersede(key, Superseded())
        self._submissions.supersede(key, Superseded())

    # The consumer's side of a stream

    def _pull(self, begin: Begin, options: RequestOptions) -> Generator[Any, None, None]:
        with self._wake:
            self._require_open()
            self._supersede(options.key)
            stream = self._streams.add(begin, options, self._clock())
        try:
            while (item := self._next_item(stream)) is not END:
                if isinstance(item, Failure):
                    raise item.error
                yield item
        finally:
            with self._wake:
                stream.end()
                self._wake.notify()

    def _next_item(self, stream: Stream) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("the service's own thread cannot wait for the service")
        with self._wake:
            if stream.over:
                return stream.last_answer
            stream.want(self._clock())
            self._wake.notify()
        return stream.answers.get()

    # The service's thread

    def _run(self) -> None:
        while (take := self._next()) is not None:
            try:
                take()
            except Exception as error:  # no request is to blame: all that run end with it
                self._fail(error)
            del take  # a whole document, perhaps, which must not wait for the next request
        with self._wake:
            self._streams.end()
            self._streams.sweep()
            self._submissions.close()
            for request in self._slot.requests:
                request.future.cancel()
            self._slot.clear(ServiceClosed("the model service is closed"))

    def _fail(self, error: Exception) -> None:
        """End everything with an error, and the model with it."""
        log.error("the model failed: %s", type(error).__name__)
        with self._wake:
            self._slot.clear(error)
            self._streams.end(error)
            self._submissions.fail_all(error)

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next thing to do; None once the service is closed."""
        with self._wake:
            while not self._closed:
                self._streams.sweep()
                self._submissions.sweep()
                take = self._choose()
                if take is not None:
                    return take
                self._wait()
            return None

    def _choose(self) -> Callable[[], None] | None:
        """What to do now. A reload waits for the streams and passes that have begun."""
        slot = self._slot
        if slot.requests:
            begun = self._streams.begun or self._submissions.busy
            if not (begun and slot.replaces(slot.requests[0])):
                return slot.serve_next
        elif slot.loaded is None:
            self._streams.end(slot.failure)
            self._streams.sweep()
            self._submissions.fail(slot.failure)
        else:
            self._submissions.admit(slot.loaded.engine, self._clock())
        if slot.loaded is None:
            return None
        turns = self._streams.turns(self._step, begun=bool(slot.requests))
        turns += self._submissions.turn(self._make_pass)
        patience_ns = round(slot.loaded.settings.limits.patience_ms * 1e6)
        turn = most_urgent(turns, self._clock(), patience_ns)
        if turn is None or self._streams.holds(turn.priority):
            return None
        return turn.take

    def _wait(self) -> None:
        """Wait for news: for a moment while consumers are expected to go on."""
        draining = self._slot.requests and self._streams.begun
        seconds = DRAIN_SECONDS if draining else None
        if self._streams.holds(None):
            seconds = HOLD_SECONDS
        if self._wake.wait(seconds) or self._streams.release():
            return
        for stream in self._streams.begun:
            if not stream.wanted:
                stream.end()

    def _step(self, stream: Stream) -> None:
        """Take a step for a stream."""
        assert self._slot.loaded is not None
        item: Any
        try:
            if stream.options.ended(self._clock()):
                item = END
            else:
                if stream.steps is None:
                    stream.steps = stream.begin(self._slot.loaded.engine)
                item = next(stream.steps, END)
        except Exception as error:  # the boundary of a request: it ends this one, not the thread
            item = Failure(error)
        with self._wake:
            if item is END or isinstance(item, Failure):
                stream.end(item.error if isinstance(item, Failure) else None)
            elif not stream.over:
                stream.answer(item)

    def _make_pass(self) -> None:
        """Make a pass of the engine and tell of its news."""
        assert self._slot.loaded is not None
        sequences = self._slot.loaded.engine.step()
        with self._wake:
            self._submissions.served(self._clock())
            news = self._submissions.news(sequences)
        for sequence, submission in news:
            tell(sequence, submission)
