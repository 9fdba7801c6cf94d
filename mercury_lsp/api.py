"""The library: the model and the completions of the language server, for programs.

    coder = MercuryCoder("mini")
    text = await coder.fill_in_middle(prefix="def add(a, b):\\n    return ", suffix="\\n")

The model runs on a thread of its own, so that the event loop stays free; a cancelled call stops the
model before its next step. Objects of this module that name the same model, for as many threads,
share one that is loaded once. Nothing here uses the network: `mercury-lsp models pull` fetches
weights.
"""

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from mercury_lsp.config import Config, surroundings
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.types import Completion, Document, Request, Trigger
from mercury_lsp.service import ModelService, ModelServices, RequestOptions, ServiceLease
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.serving import EngineLimits, InfillRequest, Priority

if TYPE_CHECKING:
    from mercury_lsp.backend.infill import Backend
    from mercury_model.load import LoadedModel

__all__ = [
    "CompletionCache",
    "MercuryCodeCompletion",
    "MercuryCoder",
    "MercuryInferenceEngine",
    "Prompt",
]

T = TypeVar("T")

Prompt: TypeAlias = str | tuple[str, str]
"""The text before a gap, or the texts before and after it."""

CONCURRENT_PROMPTS = 32
"""How many prompts of one call run at a time: enough to fill passes, and few enough to leave others
room in the engine."""

Stopped = Callable[[], bool]
"""Whether nobody waits for a result any more."""


def _load(name: str, threads: int) -> "LoadedModel":
    from mercury_model.load import load

    return load(name, cache_dir=surroundings().cache_dir, threads=threads)


SERVICES = ModelServices(_load)
"""The models of this process that the objects below share, unless they are given other services."""


class _Closed(AbstractContextManager["_Closed"]):
    """Closed when its `with` block ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give back what is held."""


class _Client(_Closed):
    """Shares a model until it is closed, which the end of a `with` block does."""

    def __init__(
        self,
        model: "str | Path | LoadedModel",
        config: Config,
        limits: EngineLimits,
        services: ModelServices,
    ) -> None:
        self.config = config
        self._model = model
        self._limits = limits
        self._services = services
        self._lock = threading.Lock()
        self._lease: ServiceLease | None = None
        self._calls: set[object] = set()
        self._closed = threading.Event()

    async def load(self) -> None:
        """Load the weights now. Raises WeightsMissing or another ModelError."""
        await self.service()

    def close(self) -> None:
        """Stop what is running and drop what waits. This object cannot be used afterwards."""
        self._closed.set()
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is not None:
            for call in list(self._calls):
                lease.service.cancel(call)
            lease.close()

    async def service(self) -> ModelService:
        """The service that owns the model, loaded. Raises what `load` raises."""
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError(f"this {type(self).__name__} is closed")
            if self._lease is None:
                self._lease = self._services.acquire(self._model, self.config.threads, self._limits)
            lease = self._lease
        await asyncio.wrap_future(lease.load())
        return lease.service

    @contextmanager
    def _call(self) -> Iterator[object]:
        """Names the requests of one call, which `close` ends together."""
        call = object()
        self._calls.add(call)
        try:
            yield call
        finally:
            self._calls.discard(call)


class MercuryCoder(_Client):
    """A model that fills gaps; the first call, or `load`, loads its weights.

    `model` is a name from `mercury-lsp models list`, a folder of a model, or a model that is loaded
    already; `config` says how many threads it may use and how much memory for contexts. `close` it,
    or use it in a `with` block, to give its share of the model back.
    """

    def __init__(
        self,
        model: "str | Path | LoadedModel" = "mini",
        *,
        config: Config | None = None,
        services: ModelServices = SERVICES,
    ) -> None:
        config = config or Config()
        limits = EngineLimits(context_bytes=config.context_megabytes << 20)
        super().__init__(model, config, limits, services)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mercury-coder")

    async def fill_in_middle(
        self,
        *,
        prefix: str,
        suffix: str = "",
        max_tokens: int = 60,
        stop: Sequence[str] = (),
        quality_speed_tradeoff: float | None = None,
    ) -> str:
        """The text that the model writes between `prefix` and `suffix`.

        It ends before any of the `stop` strings, and after `max_tokens` tokens or the most that the
        model was trained to write. It is not trimmed to the syntax of a language, as
        `MercuryCodeCompletion` does. `quality_speed_tradeoff` in [0, 1] replaces that of `config`.
        Raises ModelError without weights, ValueError for a tradeoff out of range.
        """
        tradeoff = quality_speed_tradeoff
        if tradeoff is None:
            tradeoff = self.config.quality_speed_tradeoff
        sampling = _sampling(self.config, tradeoff, max_tokens, stop)
        service = await self.service()
        with self._call() as call:
            request = InfillRequest(
                FimPrompt(prefix, suffix), sampling, Priority.KEYSTROKE, client=call
            )
            return (await asyncio.wrap_future(service.submit(request))).text

    async def run(self, job: Callable[[Stopped], T]) -> T:
        """Run `job` on the coder's thread; it is told when the caller is cancelled."""
        cancelled = threading.Event()

        def stopped() -> bool:
            return cancelled.is_set() or self._closed.is_set()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job, stopped)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def close(self) -> None:
        """Stop what is running and drop what waits. The coder cannot be used afterwards."""
        super().close()
        self._thread.shutdown(wait=False, cancel_futures=True)


class MercuryInferenceEngine(_Client):
    """A model that fills many gaps at once: their calls of the network share passes.

    `model` and `config` are as for `MercuryCoder`; `limits` say how much is held at a time, and the
    widest hold where several objects share the model. The prompts of several calls of `generate`
    share passes, too, and each call has its turn. `close` it, or use it in a `with` block, to give
    its share of the model back.
    """

    def __init__(
        self,
        model: "str | Path | LoadedModel" = "mini",
        *,
        config: Config | None = None,
        limits: EngineLimits | None = None,
        services: ModelServices = SERVICES,
    ) -> None:
        super().__init__(model, config or Config(), limits or EngineLimits(), services)

    async def generate(
        self,
        prompts: Sequence[Prompt],
        quality_speed_tradeoff: float = 0.5,
        *,
        max_tokens: int = 60,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """The texts that the model writes for `prompts`, in their order.

        A prompt is the text before a gap, or a pair of the texts before and after it. The dial in
        [0, 1] acts in diffusion mode. Cancelling the call stops all of it. Raises ModelError
        without weights, Overloaded when the engine holds too many requests, ValueError for a dial
        out of range and TypeError for a prompt that is not in a list.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts is a list of prompts: write [prompt] for a single one")
        sampling = _sampling(self.config, quality_speed_tradeoff, max_tokens, stop)
        requests = [FimPrompt(*((p, "") if isinstance(p, str) else p)) for p in prompts]
        service = await self.service()
        gate = asyncio.Semaphore(CONCURRENT_PROMPTS)

        async def fill(prompt: FimPrompt) -> str:
            async with gate:
                request = InfillRequest(prompt, sampling, client=call)
                return (await asyncio.wrap_future(service.submit(request))).text

        with self._call() as call:
            tasks = [asyncio.create_task(fill(prompt)) for prompt in requests]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()


class MercuryCodeCompletion(_Closed):
    """Completions as the language server offers them: trimmed to the syntax, or none at all.

    `cache` keeps completions, so that people who type a suggestion are served at once.
    """

    def __init__(
        self,
        coder: MercuryCoder | str | Path = "mini",
        *,
        config: Config | None = None,
        cache: CompletionCache | None = None,
    ) -> None:
        self.coder = (
            coder if isinstance(coder, MercuryCoder) else MercuryCoder(coder, config=config)
        )
        self.config = config or self.coder.config
        self.cache = CompletionCache(self.config.cache_entries) if cache is None else cache
        self._backend: Backend | None = None

    async def complete_code(
        self, context: str, cursor_position: int, *, language: str = "python"
    ) -> Completion | None:
        """The completion to insert at an offset of a whole document, or None if none is good.

        `context` is the document's text, `cursor_position` counts its code points before the
        cursor, `language` is an LSP language id. `invoked_deadline_ms` of the config bounds the
        time, loading left out. Raises ModelError when there are no weights, ValueError for a
        position outside the document.
        """
        if not 0 <= cursor_position <= len(context):
            raise ValueError(f"cursor_position must lie between 0 and {len(context)}")
        document = Document("untitled:library", language, context)
        request = Request(document, cursor_position, Trigger.INVOKED)
        service = await self.coder.service()
        return await self.coder.run(lambda stopped: self._complete(service, request, stopped))

    def close(self) -> None:
        """Close the coder, and with it everything that shares it."""
        self.coder.close()

    def _complete(
        self, service: ModelService, request: Request, stopped: Stopped
    ) -> Completion | None:
        from mercury_lsp.backend.infill import Backend, limits

        info = service.info
        if info is None:  # closed meanwhile
            return None
        self._backend = self._backend or Backend(service, self.config)
        deadline_ns = time.monotonic_ns() + self.config.invoked_deadline_ms * 1_000_000
        options = RequestOptions(Priority.KEYSTROKE, deadline_ns, stopped=stopped)
        return pipeline.complete(
            request,
            partial(self._backend.infill, options=options),
            self.cache,
            Budget(deadline_ns, time.monotonic_ns, stopped),
            pipeline.CompletionPolicy(limits(info.card)),
        )


def _sampling(
    config: Config, tradeoff: float, max_tokens: int, stop: Sequence[str]
) -> SamplingParams:
    """Raises ValueError for a tradeoff out of range."""
    if not 0 <= tradeoff <= 1:
        raise ValueError(f"quality_speed_tradeoff must lie between 0 and 1, not {tradeoff}")
    return SamplingParams(
        quality_speed_tradeoff=tradeoff,
        max_tokens=max_tokens,
        stop=tuple(stop),
        mode=config.mode,
    )
