"""A language server that does as it is told, for what a well-behaved one never does.

It keeps every completion request, deaf to cancellation, until the notification `answer` {texts}
comes: each is then answered with these texts, to be inserted at its position. It says that it is
ready, as the real one does, at the notification `ready`, or by itself if its argument is that
word; at the notification `crash` it dies.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from oracle_server import read, send

CAPABILITIES = {"inlineCompletionProvider": {}, "textDocumentSync": 1, "positionEncoding": "utf-8"}


def answer(message: dict[str, Any], texts: list[str]) -> None:
    """What is shown at the position that the request named."""
    where = message["params"]["position"]
    at = {"start": where, "end": where}
    send(id=message["id"], result=[{"insertText": text, "range": at} for text in texts])


def main(*, ready: bool) -> None:
    """Serve one editor to its end."""
    kept: list[dict[str, Any]] = []
    while message := read():
        match message["method"]:
            case "initialize":
                send(id=message["id"], result={"capabilities": CAPABILITIES})
            case "ready":
                send(method="mercury/status", params={"state": "ready", "message": ""})
            case "initialized" if ready:
                send(method="mercury/status", params={"state": "ready", "message": ""})
            case "textDocument/inlineCompletion":
                kept.append(message)
            case "answer":
                for request in kept:
                    answer(request, message["params"]["texts"])
                kept.clear()
            case "crash":
                os._exit(1)
            case "exit":
                return
            case _ if "id" in message:
                send(id=message["id"], result=None)


if __name__ == "__main__":
    main(ready="ready" in sys.argv)
