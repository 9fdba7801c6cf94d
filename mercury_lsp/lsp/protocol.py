"""pygls as this server needs it: nothing of a user's text in logs, an answer to every request.

Custom messages, all optional for a client:
- `mercury/status` {state, message}: a notification, sent to clients whose experimental
  capabilities have `mercuryStatus`; the states are those of `session.State`.
- `mercury/statistics` {since}: a request; see `statistics`.
"""

import logging
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, PyglsError
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol

from mercury_lsp import __version__

log = logging.getLogger(__name__)

SYNCHRONISATION = (
    lsp.TEXT_DOCUMENT_DID_OPEN,
    lsp.TEXT_DOCUMENT_DID_CHANGE,
    lsp.TEXT_DOCUMENT_DID_CLOSE,
    lsp.NOTEBOOK_DOCUMENT_DID_OPEN,
    lsp.NOTEBOOK_DOCUMENT_DID_CHANGE,
    lsp.NOTEBOOK_DOCUMENT_DID_CLOSE,
)
"""What `documents` does in place of pygls."""

NOTEBOOKS = lsp.NotebookDocumentSyncOptions(
    notebook_selector=[
        lsp.NotebookDocumentFilterWithCells(cells=[lsp.NotebookCellLanguage(language="*")])
    ]
)


class Protocol(LanguageServerProtocol):
    """Answers requests whose parameters cannot be read, which pygls drops."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """See `JsonRPCProtocol.structure_message`."""
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "id" in data and "method" in data:
                self._send_response(data["id"], error=error.to_response_error())
            raise

    @property
    def ended_well(self) -> bool:
        """Whether the client asked for a shutdown before it went."""
        return bool(self._shutdown)


class Server(LanguageServer):
    """The pygls server. Messages that it logs hold source text, so its loggers are silent."""

    protocol: Protocol

    def __init__(self) -> None:
        logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
        super().__init__(
            "mercury-lsp",
            __version__,
            notebook_document_sync=NOTEBOOKS,
            protocol_cls=Protocol,
            max_workers=2,
        )
        for method in SYNCHRONISATION:
            self.protocol.fm.builtin_features.pop(method)

    def report_server_error(
        self, error: Exception, source: type[PyglsError] | type[JsonRpcException]
    ) -> None:
        """Log that something failed; the editor sees no traceback and the log no source text."""
        log.error("%s while handling a message (%s)", type(error).__name__, source.__name__)
