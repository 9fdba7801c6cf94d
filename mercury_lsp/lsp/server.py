"""The language server: handlers that convert, await and convert back."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from lsprotocol import types as lsp

from mercury_lsp.config import Config
from mercury_lsp.core.types import Document
from mercury_lsp.lsp import statistics
from mercury_lsp.lsp.documents import Documents
from mercury_lsp.lsp.neighbours import beside
from mercury_lsp.lsp.parent import watch
from mercury_lsp.lsp.protocol import Server
from mercury_lsp.lsp.requests import Items, Requests
from mercury_lsp.lsp.settings import Settings
from mercury_lsp.lsp.weights import Weights
from mercury_lsp.lsp.worker import Worker
from mercury_lsp.service import ModelService, ModelStore


class Mercury:
    """What the handlers share: one editor's documents, settings and model."""

    def __init__(self, config: Config, store: ModelStore, clock: Callable[[], int]) -> None:
        self.server = Server()
        self.settings = Settings(self.server, config)
        self.documents = Documents()
        self.worker = Worker()
        self.service = ModelService(store.load, clock)
        self.weights = Weights(self.server, self.service, store, clock)
        self.requests = Requests(
            self.documents, self.settings, self.weights, self.worker, self.server.report, clock
        )

    def close(self) -> None:
        """Stop the model and everything that waits for it."""
        self.worker.close()
        self.service.close()

    def join(self, seconds: float) -> bool:
        """Wait for the step that is running; whether it has ended."""
        return self.service.join(seconds) and self.worker.join(seconds)


def make_server(
    config: Config,
    store: ModelStore,
    *,
    client_process_id: int | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Mercury:
    """A server for one editor, ready to be connected. It ends when `client_process_id` does."""
    mercury = Mercury(config, store, clock)
    _add_lifecycle(mercury, client_process_id)
    _add_documents(mercury)
    _add_notebooks(mercury)
    _add_completion(mercury)
    return mercury


def _add_lifecycle(mercury: Mercury, client_process_id: int | None) -> None:
    server = mercury.server

    @server.feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        mercury.documents.encoding = server.workspace.position_encoding or "utf-16"
        mercury.settings.initialize(params.initialization_options)
        for process in {client_process_id, params.process_id}:
            if process is not None:
                watch(process, server.protocol.over.set)

    @server.feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        await mercury.settings.ask()
        mercury.weights.configure(mercury.settings.config)
        await mercury.settings.register()

    @server.feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def changed(params: lsp.DidChangeConfigurationParams) -> None:
        mercury.weights.configure(await mercury.settings.changed(params.settings))

    @server.feature(lsp.SHUTDOWN)
    def shutdown(*_: Any) -> None:
        mercury.close()


def _add_documents(mercury: Mercury) -> None:
    server, documents, requests = mercury.server, mercury.documents, mercury.requests

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: lsp.DidOpenTextDocumentParams) -> None:
        item = params.text_document
        documents.open(item)
        requests.read_ahead(item.uri)
        look_beside(Document(item.uri, item.language_id, ""))

    def look_beside(document: Document) -> None:
        if mercury.settings.config.neighbours:
            reading = asyncio.get_running_loop().run_in_executor(None, beside, document)
            reading.add_done_callback(lambda done: read(document.uri, done))

    def read(uri: str, done: asyncio.Future[tuple[Document, ...]]) -> None:
        if done.cancelled():
            return
        if error := done.exception():
            server.report(error)
        else:
            documents.put_beside(uri, done.result())

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: lsp.DidChangeTextDocumentParams) -> None:
        where = documents.change(params.text_document, params.content_changes)
        requests.changed(params.text_document.uri, where)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: lsp.DidCloseTextDocumentParams) -> None:
        documents.close(params.text_document.uri)
        requests.closed(params.text_document.uri)
        for document in documents.in_folder_of(params.text_document.uri):
            look_beside(document)  # the text that was typed is on the disk only from now on


def _add_notebooks(mercury: Mercury) -> None:
    server, documents, requests = mercury.server, mercury.documents, mercury.requests

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_OPEN)
    def did_open(params: lsp.DidOpenNotebookDocumentParams) -> None:
        documents.open_notebook(params)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def did_change(params: lsp.DidChangeNotebookDocumentParams) -> None:
        for uri, where in documents.change_notebook(params):
            requests.changed(uri, where)

    @server.feature(lsp.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def did_close(params: lsp.DidCloseNotebookDocumentParams) -> None:
        for uri in documents.close_notebook(params):
            requests.closed(uri)


def _add_completion(mercury: Mercury) -> None:
    server = mercury.server

    # Without options pygls does not advertise the capability, and editors never ask.
    @server.feature(lsp.TEXT_DOCUMENT_INLINE_COMPLETION, lsp.InlineCompletionOptions())
    async def complete(params: lsp.InlineCompletionParams) -> Items | None:
        return await mercury.requests.answer(params, server.protocol.msg_id or "")

    @server.feature(statistics.METHOD)
    def report(params: Any) -> dict[str, Any]:
        since = getattr(params, "since", 0)
        info = mercury.service.info
        return mercury.requests.statistics.report(
            since if isinstance(since, int) else 0,
            None if info is None else {"name": info.card.name, "runtime": info.runtime},
        )
