"""pygls with two additions: no source text in logs, and an answer to every request.

Custom messages, all optional for a client:
- `mercury/status` {state, message, model}: a notification, sent to clients whose experimental
  capabilities have `mercuryStatus`; for the states see `status.State`.
- `mercury/statistics` {since}: a request; see `statistics`.
"""

import asyncio
import json
import logging
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, PyglsError
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

from mercury_lsp import __version__
from mercury_lsp.lsp.faults import describe

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long the server waits for an editor's answer before it continues without it."""

SYNCHRONISATION = (
    lsp.TEXT_DOCUMENT_DID_OPEN,
    lsp.TEXT_DOCUMENT_DID_CHANGE,
    lsp.TEXT_DOCUMENT_DID_CLOSE,
    lsp.NOTEBOOK_DOCUMENT_DID_OPEN,
    lsp.NOTEBOOK_DOCUMENT_DID_CHANGE,
    lsp.NOTEBOOK_DOCUMENT_DID_CLOSE,
)
"""The notifications that `documents` handles in place of pygls."""

NOTEBOOKS = lsp.NotebookDocumentSyncOptions(
    notebook_selector=[
        lsp.NotebookDocumentFilterWithCells(cells=[lsp.NotebookCellLanguage(language="*")])
    ]
)


class Protocol(LanguageServerProtocol):
    """JSON-RPC from bytes to handlers. Unlike pygls, it answers requests that it cannot read.

    `over` is set when the conversation is to end.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.over = asyncio.Event()

    @property
    def ended_well(self) -> bool:
        """Whether the client asked for a shutdown before it exited."""
        return bool(self._shutdown)

    def receive(self, body: bytes) -> None:
        """Handle any message; a request that cannot be handled gets an error."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(None, lsp.ErrorCodes.ParseError, "This is not JSON.")
            return
        if not isinstance(data, dict) or data.get("jsonrpc") != self.VERSION:
            self._refuse(None, lsp.ErrorCodes.InvalidRequest, "This is not JSON-RPC 2.0.")
            return
        identity = data.get("id")
        request = identity if "method" in data and isinstance(identity, int | str) else None
        refusal = self._refusal(data.get("method"))
        try:
            if refusal is None:
                self._take(data)
        except Exception as error:  # the boundary of the protocol: a bad message ends nothing
            log.warning("a message was refused: %s", describe(error))
            refusal = lsp.ErrorCodes.InvalidParams, "The parameters cannot be read."
        if refusal is not None and request is not None:
            self._refuse(request, *refusal)

    @lsp_method(lsp.EXIT)
    def lsp_exit(self, *_: Any) -> None:  # type: ignore[override]
        """The client exits; the transport ends the process."""
        self.over.set()

    def _take(self, data: dict[str, Any]) -> None:
        if isinstance(data.get("method"), str) and not self.get_message_type(data["method"]):
            data.setdefault("params", None)  # pygls insists on it in messages it does not know
        self.handle_message(self.structure_message(data))

    def _refusal(self, method: object) -> tuple[lsp.ErrorCodes, str] | None:
        """Why the message is not allowed now (LSP 3.18, "Server lifecycle")."""
        if method is None or method == lsp.EXIT:
            return None
        if self._shutdown:
            return lsp.ErrorCodes.InvalidRequest, "The server is shutting down."
        if self._workspace is None and method != lsp.INITIALIZE:
            return lsp.ErrorCodes.ServerNotInitialized, "The first request must be initialize."
        if self._workspace is not None and method == lsp.INITIALIZE:
            return lsp.ErrorCodes.InvalidRequest, "The server is initialized already."
        return None

    def _refuse(self, request: int | str | None, code: lsp.ErrorCodes, message: str) -> None:
        error = lsp.ResponseError(code.value, message)
        self._send_response(request, error=error)  # type: ignore[arg-type]


class Server(LanguageServer):
    """The pygls server. Messages that it logs hold source text, so its loggers are silent."""

    protocol: Protocol

    def __init__(self) -> None:
        logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
        super().__init__(
            "mercury-lsp", __version__, notebook_document_sync=NOTEBOOKS, protocol_cls=Protocol
        )
        for method in SYNCHRONISATION:
            self.protocol.fm.builtin_features.pop(method)

    def report(self, error: BaseException) -> None:
        """Write an unexpected error to the log and to the editor's log, without its text."""
        said = f"An internal error: {describe(error)}."
        log.error(said)
        self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Error, said))

    def report_server_error(
        self, error: Exception, source: type[PyglsError] | type[JsonRpcException]
    ) -> None:
        """Log what pygls could not handle; the editor shows no pop-up and no traceback."""
        log.error("%s: %s", source.__name__, describe(error.__cause__ or error))
