"""The completions of one model under one set of settings. Knows no protocol.

Its methods run the pipeline, which takes milliseconds besides the model's steps, so the `Worker`'s
thread calls them. The model itself runs on the service's thread.
"""

from collections.abc import Callable, Iterator
from functools import partial

from mercury_lsp.backend.infill import Backend, limits
from mercury_lsp.config import Config
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.types import Completion, Context, Draft, Request, Trigger
from mercury_lsp.lsp.statistics import Timing
from mercury_lsp.service import ModelInfo, ModelService, RequestOptions
from mercury_model.decoding.output import PartialOutput
from mercury_model.serving import Priority

CLIENT = "editor"
_FOREVER_NS = 1 << 62


class Completer:
    """Completes requests with a loaded model, and reads and completes ahead of them."""

    def __init__(
        self,
        service: ModelService,
        info: ModelInfo,
        config: Config,
        clock: Callable[[], int],
        backend: Backend | None = None,
    ) -> None:
        self.info = info
        self._service = service
        self._clock = clock
        self._backend = backend or Backend(service, config)
        self._cache = CompletionCache(config.cache_entries)
        self._policy = pipeline.CompletionPolicy(
            limits(info.card), config.min_confidence, config.distraction, config.alternatives
        )

    def configured(self, config: Config) -> "Completer":
        """The same model under other settings. Recent drafts stay, finished completions go."""
        backend = self._backend.configured(config)
        return Completer(self._service, self.info, config, self._clock, backend)

    def complete(
        self, request: Request, timing: Timing, stopped: Callable[[], bool]
    ) -> list[Completion]:
        """The completions to offer, best first; several only for an invoked request."""
        timing.begin()
        budget = Budget(timing.deadline_ns, self._clock, stopped)
        options = RequestOptions(Priority.KEYSTROKE, timing.deadline_ns, CLIENT, stopped=stopped)

        def infill(context: Context, *, rank: int = 0) -> Iterator[Draft]:
            timing.draft_begins()
            return self._backend.infill(
                context, rank=rank, options=options, watch=partial(_time, timing)
            )

        if request.trigger is Trigger.INVOKED:
            found = pipeline.alternatives(
                request, infill, self._cache, budget, self._policy, timing.mark
            )
        else:
            one = pipeline.complete(request, infill, self._cache, budget, self._policy, timing.mark)
            found = [] if one is None else [one]
        timing.end(bool(found) and all(completion.finished for completion in found))
        return found

    def prefill(self, request: Request, stopped: Callable[[], bool]) -> bool:
        """Read the text around a cursor until stopped; whether all of it is read."""
        chunks = partial(self._backend.prefill, options=_speculative(stopped))
        budget = Budget(_FOREVER_NS, self._clock, stopped)
        return pipeline.prefill(request, chunks, budget, self._policy)

    def look_ahead(
        self, request: Request, offered: Completion, stopped: Callable[[], bool]
    ) -> bool:
        """Complete the text behind `offered`, as if it were taken, until stopped.

        Returns whether it is done; the completion is in the cache then.
        """
        pipeline.complete(
            pipeline.ahead(request, offered),
            partial(self._backend.infill, options=_speculative(stopped)),
            self._cache,
            Budget(_FOREVER_NS, self._clock, stopped),
            self._policy,
        )
        return not stopped()


def _speculative(stopped: Callable[[], bool]) -> RequestOptions:
    return RequestOptions(Priority.SPECULATIVE, client=CLIENT, stopped=stopped)


def _time(timing: Timing, output: PartialOutput) -> None:
    timing.saw(
        prefill=output.prefill,
        steps=output.steps,
        tokens=sum(output.committed),
        finished=output.finished,
    )
