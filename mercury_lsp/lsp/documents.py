"""The open documents, in sync with the editor. Lives on the loop thread.

It replaces the workspace of pygls, which uses Python's line breaks and splits the whole document at
every key.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lsprotocol import types as lsp

from mercury_lsp.core.types import Document
from mercury_lsp.lsp.text import Text

OTHERS = 16
"""How many other documents a request gets at most."""


@dataclass(frozen=True, slots=True)
class Open:
    """One version of an open document. `notebook` is the URI of the notebook of a cell."""

    uri: str
    language: str
    text: Text
    notebook: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a request sees: its document, and other documents.

    The document of a notebook cell begins with the cells before it, as the cell runs after them.
    `shift` is the offset at which the editor's document begins in it.
    """

    open: Open
    document: Document
    shift: int
    others: tuple[Document, ...]


class Documents:
    """The documents that are open, the most recently used last."""

    def __init__(self) -> None:
        self.encoding: lsp.PositionEncodingKind | str = lsp.PositionEncodingKind.Utf16
        self._open: OrderedDict[str, Open] = OrderedDict()
        self._cells: dict[str, list[str]] = {}
        self._beside: dict[str, tuple[Document, ...]] = {}

    def get(self, uri: str) -> Open | None:
        """The document, if it is open."""
        return self._open.get(uri)

    def open(self, item: lsp.TextDocumentItem, notebook: str | None = None) -> None:
        """didOpen; replaces a document that is open already."""
        text = Text(item.text, self.encoding)
        self._open[item.uri] = Open(item.uri, item.language_id, text, notebook)
        self._open.move_to_end(item.uri)

    def change(
        self,
        identifier: lsp.VersionedTextDocumentIdentifier,
        changes: Sequence[lsp.TextDocumentContentChangeEvent],
    ) -> lsp.Position | None:
        """didChange, in order; a change without a range replaces the whole text.

        Returns the end of the last change, or None if that replaced the whole text.
        """
        was = self._open.get(identifier.uri)
        if was is None:
            return None
        text, where = was.text, None
        for change in changes:
            if isinstance(change, lsp.TextDocumentContentChangePartial):
                start, end = text.offset(change.range.start), text.offset(change.range.end)
                text = text.splice(start, end, change.text)
                where = min(start, end) + len(change.text)
            else:
                text, where = Text(change.text, self.encoding), None
        self._open[identifier.uri] = replace(was, text=text)
        self._open.move_to_end(identifier.uri)
        return None if where is None else text.position(where)

    def close(self, uri: str) -> None:
        """didClose."""
        self._open.pop(uri, None)
        self._beside.pop(uri, None)

    def in_folder_of(self, uri: str) -> list[Document]:
        """The open documents of the same folder, without their texts."""
        folder = uri.rpartition("/")[0]
        return [
            Document(one.uri, one.language, "")
            for one in self._open.values()
            if one.uri.rpartition("/")[0] == folder
        ]

    def put_beside(self, uri: str, files: tuple[Document, ...]) -> None:
        """Give requests in a document these files, too, after the open documents."""
        if uri in self._open:
            self._beside[uri] = files

    def open_notebook(self, params: lsp.DidOpenNotebookDocumentParams) -> None:
        """Open a notebook with all its cells."""
        notebook = params.notebook_document
        self._cells[notebook.uri] = [cell.document for cell in notebook.cells]
        for item in params.cell_text_documents:
            self.open(item, notebook.uri)

    def change_notebook(
        self, params: lsp.DidChangeNotebookDocumentParams
    ) -> list[tuple[str, lsp.Position | None]]:
        """Add, remove and change cells; the changed ones, each with the end of its change."""
        uri, cells = params.notebook_document.uri, params.change.cells
        if cells is None or uri not in self._cells:
            return []
        if (structure := cells.structure) is not None:
            array = structure.array
            new = [cell.document for cell in array.cells or ()]
            self._cells[uri][array.start : array.start + array.delete_count] = new
            for item in structure.did_open or ():
                self.open(item, uri)
            for closed in structure.did_close or ():
                self.close(closed.uri)
        return [
            (content.document.uri, self.change(content.document, content.changes))
            for content in cells.text_content or ()
        ]

    def close_notebook(self, params: lsp.DidCloseNotebookDocumentParams) -> list[str]:
        """Close a notebook with all its cells, whose URIs are returned."""
        closed = [cell.uri for cell in params.cell_text_documents]
        closed += self._cells.pop(params.notebook_document.uri, ())
        for uri in closed:
            self.close(uri)
        return closed

    def snapshot(self, uri: str, *, beside: bool = True) -> Snapshot | None:
        """The snapshot for a request at `uri`, with files `beside` it or not; None if not open."""
        current = self._open.get(uri)
        if current is None:
            return None
        before = self._before(current)
        document = Document(uri, current.language, before + current.text.source)
        mine = set(self._cells.get(current.notebook or "", ())) | {uri}
        opened = (o for key, o in reversed(self._open.items()) if key not in mine)
        others = [Document(o.uri, o.language, o.text.source) for o in islice(opened, OTHERS)]
        if beside:
            others += [file for file in self._beside.get(uri, ()) if file.uri not in self._open]
        return Snapshot(current, document, len(before), tuple(others[:OTHERS]))

    def _before(self, cell: Open) -> str:
        """The text of the earlier cells of the same language in its notebook."""
        if cell.notebook is None:
            return ""
        uris = self._cells.get(cell.notebook, [])
        earlier = uris[: uris.index(cell.uri)] if cell.uri in uris else []
        found = [self._open[uri] for uri in earlier if uri in self._open]
        same = [o.text.source.rstrip("\n") for o in found if o.language == cell.language]
        return "".join(f"{source}\n\n" for source in same if source)
