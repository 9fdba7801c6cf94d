"""LSP messages to core values and back: the only arithmetic on LSP positions beside `text`."""

from collections.abc import Sequence

from lsprotocol import types as lsp

from mercury_lsp.core.types import Completion, Request, Selected, Trigger
from mercury_lsp.lsp.documents import Snapshot


def to_request(params: lsp.InlineCompletionParams, snapshot: Snapshot) -> Request:
    """What the editor asks, in code points of the snapshot."""
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

    Clients show an item only if its range stays on the cursor's line, what the range holds before
    the cursor begins the inserted text, and what it holds behind the cursor is found in the rest.
    """
    items = (_to_item(completion, request, snapshot) for completion in completions)
    return [item for item in items if item is not None]


def _to_item(
    completion: Completion, request: Request, snapshot: Snapshot
) -> lsp.InlineCompletionItem | None:
    source, cursor = request.document.text, request.offset
    start = cursor if request.selected is None else request.selected.start
    end = cursor + completion.replaces
    chosen = "" if request.selected is None else request.selected.text
    inserted = chosen + completion.text
    before, behind = source[start:cursor], source[cursor:end]
    fits = inserted.startswith(before) and _is_within(behind, inserted[len(before) :])
    if not fits or "\n" in before + behind or "\r" in before + behind:
        return None
    text, shift = snapshot.open.text, snapshot.shift
    return lsp.InlineCompletionItem(
        insert_text=inserted,
        range=lsp.Range(text.position(start - shift), text.position(end - shift)),
    )


def _is_within(part: str, whole: str) -> bool:
    """Whether `whole` has the characters of `part`, in order."""
    rest = iter(whole)
    return all(character in rest for character in part)
