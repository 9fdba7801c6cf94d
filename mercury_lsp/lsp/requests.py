"""One inline-completion request: from the documents to the worker and back, with an end for each.

Lives on the loop thread.
"""

import asyncio
import logging
from collections.abc import Callable

from lsprotocol import types as lsp

from mercury_lsp.config import Config
from mercury_lsp.core.types import Request, Trigger
from mercury_lsp.lsp import convert
from mercury_lsp.lsp.documents import Documents, Snapshot
from mercury_lsp.lsp.session import Session
from mercury_lsp.lsp.statistics import Statistics, Timing
from mercury_lsp.lsp.weights import Weights
from mercury_lsp.lsp.worker import Superseded, Worker

log = logging.getLogger(__name__)

Items = list[lsp.InlineCompletionItem]


class Requests:
    """Answers requests, and keeps the model reading ahead of them."""

    def __init__(
        self,
        documents: Documents,
        session: Session,
        worker: Worker,
        weights: Weights,
        clock: Callable[[], int],
    ) -> None:
        self.statistics = Statistics()
        self._documents = documents
        self._session = session
        self._worker = worker
        self._weights = weights
        self._clock = clock

    async def answer(self, params: lsp.InlineCompletionParams, id: int | str) -> Items | None:
        """Items to show; [] for nothing; None when something newer took the request's place.

        Raises asyncio.CancelledError when the editor took it back.
        """
        snapshot = self._documents.snapshot(params.text_document.uri)
        timing = self._timing(params.context.trigger_kind)
        trigger = Trigger.AUTOMATIC
        outcome = "failed"
        items: Items | None = None
        try:
            if snapshot is None or not self._weights.ready():
                outcome, items = "not_ready", []
                return items
            request = convert.to_request(params, snapshot)
            trigger = request.trigger
            if not self._offers(snapshot, request.trigger):
                outcome, items = "nothing", []
                return items
            outcome, items = await self._complete(request, snapshot, timing)
        except Superseded:
            outcome = "superseded"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            characters = sum(len(str(item.insert_text)) for item in items) if items else 0
            self.statistics.add(
                timing, outcome, request=id, trigger=trigger.value, characters=characters
            )
        return items

    def read_ahead(self, uri: str, position: lsp.Position | None = None) -> None:
        """Let the model read around a position, or the end of the document, when it has time."""
        snapshot = self._documents.snapshot(uri)
        if snapshot is None or not self._offers(snapshot, Trigger.AUTOMATIC):
            return
        text = snapshot.open.text
        offset = len(text.source) if position is None else text.offset(position)
        self._plan(Request(snapshot.document, snapshot.shift + offset, others=snapshot.others))

    async def _complete(
        self, request: Request, snapshot: Snapshot, timing: Timing
    ) -> tuple[str, Items | None]:
        uri = snapshot.open.uri
        found = await self._worker.submit(
            uri, lambda stopped: self._session.complete(request, timing, stopped)
        )
        now = self._documents.get(uri)
        if now is None or now.version != snapshot.open.version:
            return "stale", None
        if timing.missed or timing.cached:
            self._plan(request)
        items = convert.to_items(found, request, snapshot)
        return ("shown" if items else "nothing"), items

    def _plan(self, request: Request) -> None:
        def prefill(stopped: Callable[[], bool]) -> bool:
            return self._session.prefill(request, stopped)

        self._worker.idle(request.document.uri, prefill)

    def _offers(self, snapshot: Snapshot, trigger: Trigger) -> bool:
        """Automatically only what the weights were taught; when asked to, anything."""
        config, language = self._session.config, snapshot.open.language
        if not config.enable or language in config.disabled_languages:
            return False
        return trigger is Trigger.INVOKED or language in self._session.languages

    def _timing(self, kind: lsp.InlineCompletionTriggerKind) -> Timing:
        now, config = self._clock(), self._session.config
        return Timing(self._clock, now, now + _deadline_ms(config, kind) * 1_000_000)


def _deadline_ms(config: Config, kind: lsp.InlineCompletionTriggerKind) -> int:
    invoked = kind == lsp.InlineCompletionTriggerKind.Invoked
    return config.invoked_deadline_ms if invoked else config.deadline_ms
