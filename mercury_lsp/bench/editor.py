"""A headless editor with one document and one cursor.

Offsets count code points here and UTF-16 units on the wire, as in most editors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mercury_lsp.bench.client import Answer, Client, PendingRequest

INVOKED, AUTOMATIC = 1, 2
"""InlineCompletionTriggerKind of LSP 3.18."""


@dataclass(frozen=True, slots=True)
class Ghost:
    """An offered completion item, with offsets into the document it was offered for."""

    start: int
    end: int
    text: str

    def accepted(self, document: str) -> str:
        """`document` with the item inserted."""
        return document[: self.start] + self.text + document[self.end :]


class Editor:
    """Opens and edits the document and requests completions. `open` replaces the document."""

    def __init__(self, client: Client, language: str = "python") -> None:
        self.client = client
        self.language = language
        self.uri = ""
        self.text = ""
        self.cursor = 0
        self._version = 0

    def open(self, uri: str, before: str, after: str) -> None:
        """Open the document `before + after` with the cursor between the two."""
        self.uri, self.text, self.cursor = uri, before + after, len(before)
        self._version = 1
        document = {"uri": uri, "languageId": self.language, "version": 1, "text": self.text}
        self.client.notify("textDocument/didOpen", {"textDocument": document})

    def edit(self, erase: int, insert: str) -> None:
        """Replace `erase` code points before the cursor by `insert`."""
        start = self.cursor - erase
        change = {"range": self._range(start, self.cursor), "text": insert}
        self.text = self.text[:start] + insert + self.text[self.cursor :]
        self.cursor = start + len(insert)
        self._version += 1
        self.client.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": self.uri, "version": self._version},
                "contentChanges": [change],
            },
        )

    def request(self, trigger: int = AUTOMATIC) -> PendingRequest:
        """Request inline completions at the cursor."""
        return self.client.request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": self.uri},
                "position": self._position(self.cursor),
                "context": {"triggerKind": trigger},
            },
        )

    def ghosts(self, answer: Answer) -> tuple[Ghost, ...]:
        """The items of an answer to a request made since the last edit."""
        result = answer.result
        items = result["items"] if isinstance(result, Mapping) else result or []
        return tuple(self._ghost(item) for item in items)

    def close(self) -> None:
        """Close the document."""
        self.client.notify("textDocument/didClose", {"textDocument": {"uri": self.uri}})

    def _ghost(self, item: Mapping[str, Any]) -> Ghost:
        text = item["insertText"]
        if isinstance(text, Mapping):
            text = text["value"]
        where = item.get("range")
        if where is None:
            return Ghost(self.cursor, self.cursor, text)
        return Ghost(self._offset(where["start"]), self._offset(where["end"]), text)

    def _range(self, start: int, end: int) -> dict[str, Any]:
        return {"start": self._position(start), "end": self._position(end)}

    def _position(self, offset: int) -> dict[str, int]:
        line_start = self.text.rfind("\n", 0, offset) + 1
        units = len(self.text[line_start:offset].encode("utf-16-le")) // 2
        return {"line": self.text.count("\n", 0, line_start), "character": units}

    def _offset(self, position: Mapping[str, int]) -> int:
        offset = 0
        for _ in range(position["line"]):
            offset = self.text.index("\n", offset) + 1
        line = self.text[offset:].split("\n", 1)[0]
        units = line.encode("utf-16-le")[: position["character"] * 2]
        return offset + len(units.decode("utf-16-le", errors="ignore"))
