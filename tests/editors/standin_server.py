"""A language server that does as it is told, for what a well-behaved one never does.

It keeps every completion request, deaf to cancellation, until the notification `answer` {texts}
comes: each is then answered with these texts, to be inserted at its position. It says that it is
ready, as the real one does, at the notification `ready`, or by itself if its argument is that
word; at the notification `crash` it dies. With the argument `old` it is a server of long ago.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from oracle_server import read, send

CAPABILITIES = {"inlineCompletionProvider": {}, "textDocumentSync": 1, "positionEncoding": "utf-8"}


class Standin:
    def __init__(self, *words: str) -> None:
        self._ready = "ready" in words
        old = {"serverInfo": {"name": "mercury-lsp", "version": "0.0.9"}}
        self._identity = old if "old" in words else {}
        self._kept: list[dict[str, Any]] = []

    def ask(self, message: dict[str, Any]) -> None:
        """A request."""
        if message["method"] == "initialize":
            send(id=message["id"], result={"capabilities": CAPABILITIES, **self._identity})
        elif message["method"] == "textDocument/inlineCompletion":
            self._kept.append(message)
        else:
            send(id=message["id"], result=None)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """A notification."""
        if method == "ready" or (method == "initialized" and self._ready):
            send(method="mercury/status", params={"state": "ready", "message": ""})
        elif method == "answer":
            for request in self._kept:
                where = request["params"]["position"]
                at = {"start": where, "end": where}
                items = [{"insertText": text, "range": at} for text in params["texts"]]
                send(id=request["id"], result=items)
            self._kept.clear()
        elif method == "crash":
            os._exit(1)


def main() -> None:
    standin = Standin(*sys.argv[1:])
    while (message := read()) and message["method"] != "exit":
        if "id" in message:
            standin.ask(message)
        else:
            standin.tell(message["method"], message.get("params") or {})


if __name__ == "__main__":
    main()
