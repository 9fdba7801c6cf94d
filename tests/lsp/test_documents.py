from lsprotocol import types as lsp

from mercury_lsp.core.types import Document
from mercury_lsp.lsp.documents import Documents


def item(uri: str, text: str, language: str = "python") -> lsp.TextDocumentItem:
    return lsp.TextDocumentItem(uri, language, 1, text)


def insert(line: int, character: int, text: str) -> lsp.TextDocumentContentChangePartial:
    place = lsp.Position(line, character)
    return lsp.TextDocumentContentChangePartial(range=lsp.Range(place, place), text=text)


def version(uri: str, number: int) -> lsp.VersionedTextDocumentIdentifier:
    return lsp.VersionedTextDocumentIdentifier(version=number, uri=uri)


def source(documents: Documents, uri: str) -> str:
    found = documents.get(uri)
    assert found is not None
    return found.text.source


def test_changes_apply_in_order_and_a_change_without_a_range_is_the_whole_text() -> None:
    documents = Documents()
    documents.open(item("a", "one\ntwo"))
    documents.change(version("a", 2), [insert(1, 0, "x"), insert(1, 1, "\ny")])
    assert source(documents, "a") == "one\nx\nytwo"
    documents.change(version("a", 3), [lsp.TextDocumentContentChangeWholeDocument("new")])
    assert source(documents, "a") == "new"


def test_an_edit_behind_a_form_feed_lands_where_the_editor_put_it() -> None:
    documents = Documents()
    documents.open(item("a", "a\x0cb\ncd"))
    documents.change(version("a", 2), [insert(1, 1, "X")])
    assert source(documents, "a") == "a\x0cb\ncXd"


def test_files_beside_a_document_follow_what_is_open_and_go_with_it() -> None:
    documents, on_disk = Documents(), tuple(Document(uri, "python", "disk") for uri in "bz")
    documents.open(item("a", "a"))
    documents.open(item("b", "b"))
    documents.put_beside("a", on_disk)
    documents.put_beside("never opened", on_disk)
    snapshot = documents.snapshot("a")
    assert snapshot is not None
    assert [(other.uri, other.text) for other in snapshot.others] == [("b", "b"), ("z", "disk")]
    without = documents.snapshot("a", beside=False)
    assert without is not None
    assert [other.uri for other in without.others] == ["b"]
    documents.close("a")
    documents.open(item("a", "a"))
    snapshot = documents.snapshot("a")
    assert snapshot is not None
    assert [other.uri for other in snapshot.others] == ["b"]


def test_a_change_of_a_document_that_is_not_open_is_ignored() -> None:
    documents = Documents()
    documents.change(version("a", 2), [insert(0, 0, "x")])
    assert documents.snapshot("a") is None


def test_a_snapshot_has_the_other_documents_most_recent_first_and_does_not_change() -> None:
    documents = Documents()
    for uri in "abc":
        documents.open(item(uri, uri))
    documents.change(version("a", 2), [insert(0, 0, "!")])
    snapshot = documents.snapshot("b")
    documents.change(version("b", 2), [insert(0, 0, "!")])
    documents.close("c")
    assert snapshot is not None
    assert snapshot.document == Document("b", "python", "b")
    assert [other.text for other in snapshot.others] == ["!a", "c"]


def notebook(*cells: tuple[str, str, str]) -> lsp.DidOpenNotebookDocumentParams:
    return lsp.DidOpenNotebookDocumentParams(
        lsp.NotebookDocument(
            "n", "jupyter", 1, [lsp.NotebookCell(lsp.NotebookCellKind.Code, c[0]) for c in cells]
        ),
        [item(*cell) for cell in cells],
    )


def test_a_cell_is_seen_behind_the_cells_of_its_language_before_it() -> None:
    documents = Documents()
    documents.open_notebook(
        notebook(("1", "import a\n", "python"), ("2", "# hi", "markdown"), ("3", "a.", "python"))
    )
    snapshot = documents.snapshot("3")
    assert snapshot is not None
    assert snapshot.document.text == "import a\n\na."
    assert snapshot.shift == len("import a\n\n")
    assert snapshot.others == ()


def test_cells_that_come_and_go_change_what_is_seen() -> None:
    documents = Documents()
    documents.open_notebook(notebook(("1", "x", "python"), ("2", "y", "python")))
    array = lsp.NotebookCellArrayChange(0, 1, [lsp.NotebookCell(lsp.NotebookCellKind.Code, "0")])
    structure = lsp.NotebookDocumentCellChangeStructure(
        array, [item("0", "z")], [lsp.TextDocumentIdentifier("1")]
    )
    change = lsp.NotebookDocumentChangeEvent(
        cells=lsp.NotebookDocumentCellChanges(structure=structure)
    )
    documents.change_notebook(
        lsp.DidChangeNotebookDocumentParams(lsp.VersionedNotebookDocumentIdentifier(2, "n"), change)
    )
    snapshot = documents.snapshot("2")
    assert snapshot is not None
    assert snapshot.document.text == "z\n\ny"
    assert documents.get("1") is None
