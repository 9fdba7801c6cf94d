"""Inline-completion requests: from the documents to the worker and back. Each one is answered.

Lives on the loop thread.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from lsprotocol import types as lsp

from mercury_lsp.core.types import Completion, Request, Trigger
from mercury_lsp.lsp import convert
from mercury_lsp.lsp.completer import Completer
from mercury_lsp.lsp.documents import Documents, Snapshot
from mercury_lsp.lsp.settings import Settings
from mercury_lsp.lsp.statistics import Statistics, Timing
from mercury_lsp.lsp.weights import Weights
from mercury_lsp.lsp.worker import Worker
from mercury_lsp.service import Superseded

Items = list[lsp.InlineCompletionItem]

QUIET_SECONDS = 0.03
"""How long a document must be quiet before the model reads ahead in it. An editor that asks after
each key does so at once, and should not find the model busy."""

READING_SECONDS = 0.25
"""How long an offer must stand before the model completes the text behind it. People who type on do
so sooner, and nobody reads and accepts an offer in less time."""


class Requests:
    """Answers requests, and lets the model read ahead of them.

    `report` is told of unexpected errors.
    """

    def __init__(
        self,
        documents: Documents,
        settings: Settings,
        weights: Weights,
        worker: Worker,
        report: Callable[[BaseException], None],
        clock: Callable[[], int],
    ) -> None:
        self.statistics = Statistics()
        self._documents = documents
        self._settings = settings
        self._weights = weights
        self._worker = worker
        self._report = report
        self._clock = clock
        self._soon: dict[str, asyncio.TimerHandle] = {}
        self._last: tuple[str, lsp.Position | None] | None = None
        weights.when_ready(self._read_last)

    async def answer(self, params: lsp.InlineCompletionParams, id: int | str) -> Items | None:
        """Items to show; [] for nothing; None when something newer took the request's place.

        Raises asyncio.CancelledError when the editor took it back.
        """
        uri, invoked = params.text_document.uri, _is_invoked(params)
        self._last = uri, params.position
        self._hush(uri)
        timing = self._timing(invoked)
        outcome, items = "failed", None
        try:
            outcome, items = await self._answer(params, timing)
        except Superseded:
            outcome = "superseded"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:  # the request boundary: it ends this request, not the server
            self._report(error)
        finally:
            self.statistics.add(
                timing,
                outcome,
                request=id,
                trigger=(Trigger.INVOKED if invoked else Trigger.AUTOMATIC).value,
                characters=sum(len(str(item.insert_text)) for item in items or ()),
            )
        return items

    def read_ahead(self, uri: str, position: lsp.Position | None = None) -> None:
        """Let the model read around a position, or the end, once the document is quiet."""
        self._last = uri, position
        self._later(uri, QUIET_SECONDS, self._read, uri, position)

    def changed(self, uri: str, position: lsp.Position | None) -> None:
        """Stop what was asked about a document's old text, and read ahead where it changed."""
        self._worker.forget(uri)
        self.read_ahead(uri, position)

    def closed(self, uri: str) -> None:
        """Stop everything for a document."""
        self._hush(uri)
        self._worker.forget(uri)

    async def _answer(
        self, params: lsp.InlineCompletionParams, timing: Timing
    ) -> tuple[str, Items | None]:
        snapshot = self._snapshot(params.text_document.uri)
        completer = self._weights.ready()
        if completer is None:
            return "not_ready", []
        if snapshot is None or not self._offers(completer, snapshot, _is_invoked(params)):
            return "nothing", []
        request, uri = convert.to_request(params, snapshot), snapshot.open.uri
        try:
            found = await self._worker.submit(
                uri, lambda stopped: completer.complete(request, timing, stopped)
            )
        except Superseded:
            if self._documents.get(uri) is snapshot.open:
                raise
            return "stale", None
        if self._documents.get(uri) is not snapshot.open:
            return "stale", None
        quick = completer.info.card.infill.quick is not None  # the full window may be unread
        if timing.missed or timing.cached or quick:
            self._read_when_idle(completer, request)
        if found and request.selected is None:
            self._later(uri, READING_SECONDS, self._look_ahead, completer, request, found[0])
        items = convert.to_items(found, request, snapshot)
        return ("shown" if items else "nothing"), items

    def _snapshot(self, uri: str) -> Snapshot | None:
        return self._documents.snapshot(uri, beside=self._settings.config.neighbours)

    def _later(self, uri: str, seconds: float, do: Callable[..., None], *what: Any) -> None:
        """Call `do` once a document has been quiet for so long."""
        self._hush(uri)
        self._soon[uri] = asyncio.get_running_loop().call_later(seconds, do, *what)

    def _hush(self, uri: str) -> None:
        if (timer := self._soon.pop(uri, None)) is not None:
            timer.cancel()

    def _read_last(self) -> None:
        """Read where something happened last: a model has been loaded."""
        if self._last is not None:
            self.read_ahead(*self._last)

    def _read(self, uri: str, position: lsp.Position | None) -> None:
        self._soon.pop(uri, None)
        snapshot, completer = self._snapshot(uri), self._weights.ready()
        if snapshot is None or completer is None or not self._offers(completer, snapshot, False):
            return
        text = snapshot.open.text
        offset = len(text.source) if position is None else text.offset(position)
        request = Request(snapshot.document, snapshot.shift + offset, others=snapshot.others)
        self._read_when_idle(completer, request)

    def _read_when_idle(self, completer: Completer, request: Request) -> None:
        self._worker.idle(request.document.uri, partial(completer.prefill, request))

    def _look_ahead(self, completer: Completer, request: Request, offered: Completion) -> None:
        self._soon.pop(request.document.uri, None)
        self._worker.idle(request.document.uri, partial(completer.look_ahead, request, offered))

    def _offers(self, completer: Completer, snapshot: Snapshot, invoked: bool) -> bool:
        """Whether to offer anything: unasked only in languages that the model was trained on."""
        config, language = self._settings.config, snapshot.open.language
        if not config.enable or language in config.disabled_languages:
            return False
        return invoked or language in completer.info.card.infill.languages

    def _timing(self, invoked: bool) -> Timing:
        now, config = self._clock(), self._settings.config
        deadline_ms = config.invoked_deadline_ms if invoked else config.deadline_ms
        return Timing(self._clock, now, now + deadline_ms * 1_000_000)


def _is_invoked(params: lsp.InlineCompletionParams) -> bool:
    return params.context.trigger_kind == lsp.InlineCompletionTriggerKind.Invoked
