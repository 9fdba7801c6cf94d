"""One inline-completion request: from the documents to the worker and back, with an end for each.

Lives on the loop thread.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from lsprotocol import types as lsp

from mercury_lsp.core.types import Completion, Request, Trigger
from mercury_lsp.lsp import convert
from mercury_lsp.lsp.documents import Documents, Snapshot
from mercury_lsp.lsp.session import Session
from mercury_lsp.lsp.statistics import Statistics, Timing
from mercury_lsp.lsp.worker import Superseded, Worker

Items = list[lsp.InlineCompletionItem]

QUIET_SECONDS = 0.03
"""How long nothing must happen to a document before the model reads ahead in it: an editor that
asks after each key does so at once, and should not find the model at work."""

READING_SECONDS = 0.25
"""How long an offer must stand before the model looks beyond it: whoever types on does so sooner,
and nobody reads and takes it in less."""


class Requests:
    """Answers requests, and keeps the model reading ahead of them.

    `ready` says whether the model can be asked; `report` hears of errors that nobody expected.
    """

    def __init__(
        self,
        documents: Documents,
        session: Session,
        worker: Worker,
        ready: Callable[[], bool],
        report: Callable[[BaseException], None],
        clock: Callable[[], int],
    ) -> None:
        self.statistics = Statistics()
        self._documents = documents
        self._session = session
        self._worker = worker
        self._ready = ready
        self._report = report
        self._clock = clock
        self._soon: dict[str, asyncio.TimerHandle] = {}
        self._last: tuple[str, lsp.Position | None] | None = None

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
        """Let the model read around a position, or the document's end, when all has gone quiet."""
        self._last = uri, position
        self._later(uri, QUIET_SECONDS, self._read, uri, position)

    def arrived(self) -> None:
        """There is a model now: let it read where something happened last."""
        if self._last is not None:
            self.read_ahead(*self._last)

    def changed(self, uri: str, position: lsp.Position | None) -> None:
        """What is asked of a document that has changed is out of date; read on where it changed."""
        self._worker.forget(uri)
        self.read_ahead(uri, position)

    def closed(self, uri: str) -> None:
        """Nothing more is wanted of a document."""
        self._hush(uri)
        self._worker.forget(uri)

    async def _answer(
        self, params: lsp.InlineCompletionParams, timing: Timing
    ) -> tuple[str, Items | None]:
        snapshot = self._snapshot(params.text_document.uri)
        if not self._ready():
            return "not_ready", []
        if snapshot is None or not self._offers(snapshot, invoked=_is_invoked(params)):
            return "nothing", []
        request, uri = convert.to_request(params, snapshot), snapshot.open.uri
        try:
            found = await self._worker.submit(
                uri, lambda stopped: self._session.complete(request, timing, stopped)
            )
        except Superseded:
            if self._documents.get(uri) is snapshot.open:
                raise
            return "stale", None
        if self._documents.get(uri) is not snapshot.open:
            return "stale", None
        if timing.missed or timing.cached:
            self._plan(request)
        if found and request.selected is None:
            self._later(uri, READING_SECONDS, self._look_ahead, request, found[0])
        items = convert.to_items(found, request, snapshot)
        return ("shown" if items else "nothing"), items

    def _snapshot(self, uri: str) -> Snapshot | None:
        return self._documents.snapshot(uri, beside=self._session.config.neighbours)

    def _later(self, uri: str, seconds: float, do: Callable[..., None], *what: Any) -> None:
        """`do` it when nothing happened to a document for so long."""
        self._hush(uri)
        self._soon[uri] = asyncio.get_running_loop().call_later(seconds, do, *what)

    def _hush(self, uri: str) -> None:
        if (timer := self._soon.pop(uri, None)) is not None:
            timer.cancel()

    def _read(self, uri: str, position: lsp.Position | None) -> None:
        self._soon.pop(uri, None)
        snapshot = self._snapshot(uri)
        if snapshot is None or not self._ready() or not self._offers(snapshot, invoked=False):
            return
        text = snapshot.open.text
        offset = len(text.source) if position is None else text.offset(position)
        self._plan(Request(snapshot.document, snapshot.shift + offset, others=snapshot.others))

    def _plan(self, request: Request) -> None:
        def prefill(stopped: Callable[[], bool]) -> bool:
            return self._session.prefill(request, stopped)

        self._worker.idle(request.document.uri, prefill)

    def _look_ahead(self, request: Request, offered: Completion) -> None:
        def complete(stopped: Callable[[], bool]) -> bool:
            return self._session.look_ahead(request, offered, stopped)

        self._soon.pop(request.document.uri, None)
        self._worker.idle(request.document.uri, complete)

    def _offers(self, snapshot: Snapshot, *, invoked: bool) -> bool:
        """Unasked only in languages that the weights were taught; when asked to, in any."""
        config, model, language = self._session.config, self._session.model, snapshot.open.language
        if not config.enable or language in config.disabled_languages:
            return False
        return invoked or (model is not None and language in model.languages)

    def _timing(self, invoked: bool) -> Timing:
        now, config = self._clock(), self._session.config
        deadline_ms = config.invoked_deadline_ms if invoked else config.deadline_ms
        return Timing(self._clock, now, now + deadline_ms * 1_000_000)


def _is_invoked(params: lsp.InlineCompletionParams) -> bool:
    return params.context.trigger_kind == lsp.InlineCompletionTriggerKind.Invoked
