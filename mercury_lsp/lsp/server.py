"""The language server: handlers that convert, await and convert back."""

import logging
import time
from collections.abc import Callable
from typing import Any

from lsprotocol import types as lsp

from mercury_lsp.config import SECTION, Config, parse
from mercury_lsp.lsp import statistics
from mercury_lsp.lsp.documents import Documents
from mercury_lsp.lsp.parent import watch
from mercury_lsp.lsp.protocol import Server
from mercury_lsp.lsp.requests import Items, Requests
from mercury_lsp.lsp.session import Session
from mercury_lsp.lsp.weights import Shelf, Weights
from mercury_lsp.lsp.worker import Worker

log = logging.getLogger(__name__)


class Mercury:
    """What the handlers share: one editor's documents, settings and model."""

    def __init__(
        self, config: Config, shelf: Shelf, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.server = Server()
        self.base = config
        self.documents = Documents()
        self.session = Session(config, shelf.load, clock)
        self.worker = Worker()
        self.weights = Weights(self.server, self.session, self.worker, shelf, clock)
        self.requests = Requests(self.documents, self.session, self.worker, self.weights, clock)
        self._told: set[str] = set()

    def take_settings(self, raw: object) -> Config:
        """The settings an editor sent; what is wrong with them is said once."""
        config, problems = parse(raw, self.base)
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                warning = lsp.ShowMessageParams(lsp.MessageType.Warning, f"mercury: {problem}")
                self.server.window_show_message(warning)
        return config

    async def pull_settings(self) -> object:
        """What the editor has set, asked of it; None if it cannot be asked or has set nothing."""
        workspace = self.server.client_capabilities.workspace
        if workspace is None or not workspace.configuration:
            return None
        items = [lsp.ConfigurationItem(section=SECTION)]
        answer = await self.server.workspace_configuration_async(lsp.ConfigurationParams(items))
        return answer[0] if answer else None


def make_server(
    config: Config,
    shelf: Shelf,
    *,
    client_process_id: int | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Mercury:
    """A server for one editor, ready to be connected. It ends when `client_process_id` does."""
    mercury = Mercury(config, shelf, clock)
    _add_lifecycle(mercury, client_process_id)
    _add_documents(mercury)
    _add_completion(mercury)
    return mercury


def _add_lifecycle(mercury: Mercury, client_process_id: int | None) -> None:
    server = mercury.server

    @server.feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        mercury.documents.encoding = server.workspace.position_encoding or "utf-16"
        mercury.session.config = mercury.take_settings(params.initialization_options)
        mercury.base = mercury.session.config

    @server.feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        for process in {client_process_id, server.process_id}:
            if process is not None:
                watch(process)
        settings = await mercury.pull_settings()
        if settings is not None:
            mercury.session.config = mercury.take_settings(settings)
        mercury.weights.start_loading()

    @server.feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def changed(params: lsp.DidChangeConfigurationParams) -> None:
        pulled = await mercury.pull_settings()
        config = mercury.take_settings(params.settings if pulled is None else pulled)
        mercury.weights.configure(config)

    @server.feature(lsp.SHUTDOWN)
    def shutdown(*_: Any) -> None:
        mercury.worker.close()


def _add_documents(mercury: Mercury) -> None:
    server, documents = mercury.server, mercury.documents

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: lsp.DidOpenTextDocumentParams) -> None:
        documents.open(params.text_document)
        mercury.requests.read_ahead(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: lsp.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        documents.change(uri, params.text_document.version, params.content_changes)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: lsp.DidCloseTextDocumentParams) -> None:
        documents.close(params.text_document.uri)
        mercury.worker.forget(params.text_document.uri)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_OPEN)
    def did_open_notebook(params: lsp.DidOpenNotebookDocumentParams) -> None:
        documents.open_notebook(params)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def did_change_notebook(params: lsp.DidChangeNotebookDocumentParams) -> None:
        documents.change_notebook(params)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def did_close_notebook(params: lsp.DidCloseNotebookDocumentParams) -> None:
        documents.close_notebook(params)


def _add_completion(mercury: Mercury) -> None:
    server = mercury.server

    # Without options pygls does not advertise the capability, and editors never ask.
    @server.feature(lsp.TEXT_DOCUMENT_INLINE_COMPLETION, lsp.InlineCompletionOptions())
    async def complete(params: lsp.InlineCompletionParams) -> Items | None:
        try:
            return await mercury.requests.answer(params, server.protocol.msg_id or "")
        except Exception as error:  # the request boundary: a bug ends one request, not the server
            log.error("a request failed: %s", type(error).__name__)
            return None

    @server.feature(statistics.METHOD)
    def report(params: Any) -> dict[str, Any]:
        since = getattr(params, "since", 0)
        number = since if isinstance(since, int) else 0
        return mercury.requests.statistics.report(number, mercury.session.model)
