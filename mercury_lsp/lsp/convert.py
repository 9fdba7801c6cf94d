"""LSP messages to core values and back. Only this module and `text` compute with LSP positions."""

from collections.abc import Sequence

from lsprotocol import types as lsp

from mercury_lsp.core.types import Completion, Request, Selected, Trigger
from mercury_lsp.lsp.documents import Snapshot


def to_request(params: lsp.InlineCompletionParams, snapshot: Snapshot) -> Request:
    """The core's request, with offsets in code points of the snapshot."""
    text, shift = snapshot.open.text, snapshot.shift
    invoked = params.context.trigger_kind == lsp.InlineCompletionTriggerKind.Invoked
    selected = None
    if (info := params.context.selected_completion_info) is not None:
        start, end = text.offset(info.range.start), text.offset(info.range.end)
        selected = Selected(shift + start, shift + end, info.text)
    return Request(
        document=snapshot.document,
        offset=shift + text.offset(params.position),
        trigger=Trigger.INVOKED if invoked else Trigger.AUTOMATIC,
        selected=selected,
        others=snapshot.others,
    )


def to_items(
    completions: Sequence[Completion], request: Request, snapshot: Snapshot
) -> list[lsp.InlineCompletionItem]:
    """Items that any client can show.

    Clients show an item only if its range stays on the cursor's line, the inserted text begins with
    the range's text before the cursor, and the rest contains the range's text behind the cursor. If
    a menu entry is selected, the inserted text begins with that entry.
    """
    items = (_to_item(completion, request, snapshot) for completion in completions)
    return [item for item in items if item is not None]


def _to_item(
    completion: Completion, request: Request, snapshot: Snapshot
) -> lsp.InlineCompletionItem | None:
    source, cursor, selected = request.document.text, request.offset, request.selected
    start = cursor if selected is None else selected.start
    end = cursor + completion.replaces
    before, behind = source[start:cursor], source[cursor:end]
    if any(breaks in before + behind for breaks in "\r\n"):
        return None
    if not _is_within(behind, completion.text):
        return None
    inserted = before + completion.text
    if selected is not None and not inserted.startswith(selected.text):
        return None
    text, shift = snapshot.open.text, snapshot.shift
    return lsp.InlineCompletionItem(
        insert_text=inserted,
        range=lsp.Range(text.position(start - shift), text.position(end - shift)),
    )


def _is_within(part: str, whole: str) -> bool:
    """Whether `whole` contains the characters of `part`, in their order."""
    rest = iter(whole)
    return all(character in rest for character in part)
