"""The library: the model and the completions of the language server, for programs.

    coder = MercuryCoder("mini")
    text = await coder.fill_in_middle(prefix="def add(a, b):\\n    return ", suffix="\\n")

What takes time runs on one thread of its own, so that the event loop stays free; a cancelled call
stops the model at its next step. Nothing here uses the network: weights are fetched with
`mercury-lsp models pull`.
"""

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from mercury_lsp.config import Config, surroundings
from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.types import Completion, Document, Request, Trigger

if TYPE_CHECKING:
    from mercury_lsp.backend.infill import Backend
    from mercury_model.decoding.infiller import Infiller
    from mercury_model.decoding.params import SamplingParams
    from mercury_model.decoding.prompt import FimPrompt
    from mercury_model.load import LoadedModel
    from mercury_model.serving import DynamicBatcher, EngineLimits

__all__ = [
    "CompletionCache",
    "MercuryCodeCompletion",
    "MercuryCoder",
    "MercuryInferenceEngine",
    "Prompt",
]

T = TypeVar("T")

Prompt: TypeAlias = str | tuple[str, str]
"""What stands before a gap, or before and after it."""

AT_ONCE = 32
"""How many prompts of one call are under way at a time: enough to fill passes, and few enough to
leave others room in the engine."""

Stopped = Callable[[], bool]
"""Whether nobody waits for a result any more."""


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


class MercuryCoder(_Closed):
    """A model that fills gaps; its weights are loaded by the first call, or by `load`.

    `model` is a name from `mercury-lsp models list`, or a model that is loaded already; `config`
    says how many threads it may use and how much memory for contexts. Calls are served one after
    the other. `close` it, or use it in a `with` block, to give its thread and memory back.
    """

    def __init__(
        self, model: "str | LoadedModel" = "mini", *, config: Config | None = None
    ) -> None:
        self.config = config or Config()
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mercury-coder")
        self._closed = threading.Event()
        self._infiller: Infiller | None = None

    async def load(self) -> None:
        """Load the weights now. Raises WeightsMissing or another ModelError."""
        await self.run(lambda stopped: self.loaded())

    async def fill_in_middle(
        self,
        *,
        prefix: str,
        suffix: str = "",
        max_tokens: int = 60,
        stop: Sequence[str] = (),
        quality_speed_tradeoff: float | None = None,
    ) -> str:
        """What the model writes between `prefix` and `suffix`.

        It ends before any of the `stop` strings, and after `max_tokens` tokens or as many as the
        model was taught to write. It is not trimmed to the syntax of a language: that is what
        `MercuryCodeCompletion` does. `quality_speed_tradeoff` in [0, 1] replaces the one of
        `config`. Raises ModelError without weights, ValueError for a tradeoff out of range.
        """
        from mercury_model.decoding.prompt import FimPrompt

        tradeoff = quality_speed_tradeoff
        if tradeoff is None:
            tradeoff = self.config.quality_speed_tradeoff
        sampling = _sampling(self.config, tradeoff, max_tokens, stop)
        return await self.run(
            lambda stopped: self._fill(FimPrompt(prefix, suffix), sampling, stopped)
        )

    async def run(self, job: Callable[[Stopped], T]) -> T:
        """Do `job` on the model's thread; it is told when the caller is cancelled."""
        cancelled = threading.Event()

        def stopped() -> bool:
            return cancelled.is_set() or self._closed.is_set()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job, stopped)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def loaded(self) -> "LoadedModel":
        """The model, loaded if it is not yet. For jobs on the model's thread."""
        if isinstance(self._model, str):
            self._model = _load(self._model, self.config)
        return self._model

    def close(self) -> None:
        """Stop what is running, drop what waits. The coder cannot be used afterwards."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fill(self, gap: "FimPrompt", sampling: "SamplingParams", stopped: Stopped) -> str:
        from mercury_model.decoding.infiller import Infiller

        if self._infiller is None:
            model = self.loaded()
            memory = self.config.context_megabytes << 20
            self._infiller = Infiller(model.card, model.tokenizer, model.runtime, memory)
        text = ""
        with closing(self._infiller.drafts(gap, sampling)) as drafts:
            for draft in drafts:
                text = draft.text
                if stopped():
                    break
        return text


class MercuryInferenceEngine(_Closed):
    """A model that fills many gaps at once: their calls of the network share its passes.

    `model` and `config` are as for `MercuryCoder`, `limits` how much is taken on at a time. What is
    asked in several calls of `generate` shares passes, too, and each call has its turn. `close` it,
    or use it in a `with` block, to give its thread and memory back.
    """

    def __init__(
        self,
        model: "str | LoadedModel" = "mini",
        *,
        config: Config | None = None,
        limits: "EngineLimits | None" = None,
    ) -> None:
        self.config = config or Config()
        self._model = model
        self._limits = limits
        self._starting = threading.Lock()
        self._batcher: DynamicBatcher | None = None
        self._closed = False

    async def load(self) -> None:
        """Load the weights now. Raises WeightsMissing or another ModelError."""
        await asyncio.to_thread(self._started)

    async def generate(
        self,
        prompts: Sequence[Prompt],
        quality_speed_tradeoff: float = 0.5,
        *,
        max_tokens: int = 60,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """What the model writes for each of `prompts`, in their order.

        A prompt is the text before a gap, or a pair of the texts before and after it. The dial in
        [0, 1] acts in diffusion mode. Cancelling the call stops all of it. Raises ModelError
        without weights, Overloaded when too much is asked of the engine already, ValueError for a
        dial out of range and TypeError for a prompt that is not in a list.
        """
        from mercury_model.decoding.prompt import FimPrompt
        from mercury_model.serving import InfillRequest

        if isinstance(prompts, str):
            raise TypeError("prompts is a list of prompts: write [prompt] for a single one")
        sampling = _sampling(self.config, quality_speed_tradeoff, max_tokens, stop)
        gaps = [FimPrompt(*((p, "") if isinstance(p, str) else p)) for p in prompts]
        batcher = await asyncio.to_thread(self._started)
        client, gate = object(), asyncio.Semaphore(AT_ONCE)

        async def fill(gap: FimPrompt) -> str:
            async with gate:
                order = InfillRequest(gap, sampling, client=client)
                return (await asyncio.wrap_future(batcher.submit(order))).text

        tasks = [asyncio.create_task(fill(gap)) for gap in gaps]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """Stop after the pass that runs. The engine cannot be used afterwards."""
        with self._starting:
            self._closed = True
        if self._batcher is not None:
            self._batcher.close()

    def _started(self) -> "DynamicBatcher":
        """The batcher, with the weights loaded."""
        from mercury_model.serving import DynamicBatcher

        with self._starting:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if self._batcher is None:
                model = self._model
                loaded = _load(model, self.config) if isinstance(model, str) else model
                self._batcher = DynamicBatcher(loaded, self._limits)
            return self._batcher


class MercuryCodeCompletion(_Closed):
    """Completions as the language server offers them: trimmed to the syntax, or none at all.

    Share a `MercuryCoder` between several to load its weights once. `cache` keeps completions, so
    that who types what was suggested is served at once.
    """

    def __init__(
        self,
        coder: MercuryCoder | str = "mini",
        *,
        config: Config | None = None,
        cache: CompletionCache | None = None,
    ) -> None:
        self.coder = MercuryCoder(coder, config=config) if isinstance(coder, str) else coder
        self.config = config or self.coder.config
        self.cache = CompletionCache(self.config.cache_entries) if cache is None else cache
        self._backend: Backend | None = None

    async def complete_code(
        self, context: str, cursor_position: int, *, language: str = "python"
    ) -> Completion | None:
        """The completion to insert at an offset of a whole document, or None for none that is good.

        `context` is the document's text, `cursor_position` counts its code points before the
        cursor, `language` is an LSP language id. `invoked_deadline_ms` of the config bounds the
        time, loading left out. Raises ModelError when there are no weights, ValueError for a
        position outside the document.
        """
        if not 0 <= cursor_position <= len(context):
            raise ValueError(f"cursor_position must lie between 0 and {len(context)}")
        document = Document("untitled:library", language, context)
        request = Request(document, cursor_position, Trigger.INVOKED)
        return await self.coder.run(lambda stopped: self._complete(request, stopped))

    def close(self) -> None:
        """Close the coder, and with it everything that shares it."""
        self.coder.close()

    def _complete(self, request: Request, stopped: Stopped) -> Completion | None:
        from mercury_lsp.backend.infill import Backend, limits

        model = self.coder.loaded()
        if self._backend is None:
            self._backend = Backend(model, self.config)
        deadline_ns = time.monotonic_ns() + self.config.invoked_deadline_ms * 1_000_000
        return pipeline.complete(
            request,
            self._backend.infill,
            self.cache,
            Budget(deadline_ns, time.monotonic_ns, stopped),
            pipeline.CompletionPolicy(limits(model.card)),
        )


def _load(name: str, config: Config) -> "LoadedModel":
    from mercury_model.load import load

    return load(name, cache_dir=surroundings().cache_dir, threads=config.threads)


def _sampling(
    config: Config, tradeoff: float, max_tokens: int, stop: Sequence[str]
) -> "SamplingParams":
    """Raises ValueError for a tradeoff out of range."""
    from mercury_model.decoding.params import SamplingParams

    if not 0 <= tradeoff <= 1:
        raise ValueError(f"quality_speed_tradeoff must lie between 0 and 1, not {tradeoff}")
    return SamplingParams(
        quality_speed_tradeoff=tradeoff,
        max_tokens=max_tokens,
        stop=tuple(stop),
        mode=config.mode,
    )
