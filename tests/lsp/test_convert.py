import pytest
from lsprotocol import types as lsp

from mercury_lsp.core.types import Completion, Selected, Trigger
from mercury_lsp.lsp import convert
from mercury_lsp.lsp.documents import Documents, Snapshot


def snapshot(text: str, encoding: str = "utf-16") -> Snapshot:
    documents = Documents()
    documents.encoding = encoding
    documents.open(lsp.TextDocumentItem("a", "python", 1, text))
    found = documents.snapshot("a")
    assert found is not None
    return found


def params(
    line: int, character: int, selected: lsp.SelectedCompletionInfo | None = None
) -> lsp.InlineCompletionParams:
    context = lsp.InlineCompletionContext(lsp.InlineCompletionTriggerKind.Automatic, selected)
    place = lsp.Position(line, character)
    return lsp.InlineCompletionParams(context, lsp.TextDocumentIdentifier("a"), place)


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 5), ("utf-16", 3), ("utf-32", 2)])
def test_a_request_is_in_code_points_and_its_items_in_the_units_of_the_editor(
    encoding: str, column: int
) -> None:
    seen = snapshot("\U0001f600x", encoding)
    request = convert.to_request(params(0, column), seen)
    assert request.offset == 2
    assert request.trigger is Trigger.AUTOMATIC
    [item] = convert.to_items([Completion("y")], request, seen)
    assert item.range == lsp.Range(lsp.Position(0, column), lsp.Position(0, column))


def test_the_range_takes_in_the_replaced_closers() -> None:
    seen = snapshot("f()")
    request = convert.to_request(params(0, 2), seen)
    [item] = convert.to_items([Completion("x)", replaces=1)], request, seen)
    assert (item.insert_text, item.range) == (
        "x)",
        lsp.Range(lsp.Position(0, 2), lsp.Position(0, 3)),
    )


def test_a_completion_that_no_client_could_show_is_left_out() -> None:
    seen = snapshot("f(]\n")
    request = convert.to_request(params(0, 2), seen)
    replaces_what_is_not_inserted = Completion("x)", replaces=1)
    reaches_the_next_line = Completion("x]\n", replaces=2)
    assert (
        convert.to_items([replaces_what_is_not_inserted, reaches_the_next_line], request, seen)
        == []
    )


def test_an_item_begins_with_the_entry_selected_in_the_menu() -> None:
    seen = snapshot("math.p")
    whole = lsp.Range(lsp.Position(0, 5), lsp.Position(0, 6))
    selected = lsp.SelectedCompletionInfo(whole, "pow")
    request = convert.to_request(params(0, 6, selected), seen)
    assert request.selected == Selected(5, 6, "pow")
    [item] = convert.to_items([Completion("ow(x, 2)")], request, seen)
    assert (item.insert_text, item.range) == ("pow(x, 2)", whole)
