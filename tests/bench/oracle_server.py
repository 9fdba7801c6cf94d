"""A language server that knows the text to be typed. It tests the harness without a model.

It offers the rest of the line if the text before the cursor begins one of the `texts` in its
settings. It exits at request number `die_at` and sends invalid data at request `garble_at`.
"""

import json
import sys
import time
from typing import Any


def read() -> dict[str, Any] | None:
    length = 0
    while line := sys.stdin.buffer.readline().strip():
        length = int(line.split(b":")[1])
    return json.loads(sys.stdin.buffer.read(length)) if length else None


def send(**message: Any) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    sys.stdout.buffer.flush()


class Oracle:
    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.text = ""
        self.records: list[dict[str, Any]] = []

    def offset(self, position: dict[str, int]) -> int:
        lines = self.text.split("\n")
        start = sum(len(line) + 1 for line in lines[: position["line"]])
        units = lines[position["line"]].encode("utf-16-le")[: position["character"] * 2]
        return start + len(units.decode("utf-16-le"))

    def change(self, params: dict[str, Any]) -> None:
        for change in params["contentChanges"]:
            start = self.offset(change["range"]["start"])
            end = self.offset(change["range"]["end"])
            self.text = self.text[:start] + change["text"] + self.text[end:]

    def complete(self, number: int, params: dict[str, Any]) -> list[dict[str, Any]]:
        before = self.text[: self.offset(params["position"])]
        known = [text for text in self.settings["texts"] if text.startswith(before)]
        rest = known[0][len(before) :].split("\n")[0] if known else ""
        self.records.append(
            {
                "sequence": len(self.records),
                "request": number,
                "trigger": "automatic",
                "outcome": "shown" if rest else "nothing",
                "cached": False,
                "missed": False,
                **{
                    f"{stage}_ms": 0.0
                    for stage in ("queue", "context", "prefill", "denoise", "tidy", "total")
                },
                "prefill_chunks": 0,
                "steps": 1,
                "tokens": 2,
                "characters": len(rest),
            }
        )
        return [{"insertText": rest}] if rest else []

    def statistics(self, since: int) -> dict[str, Any]:
        return {
            "version": "0",
            "model": {"name": "oracle", "runtime": "none"},
            "next": len(self.records),
            "dropped": 0,
            "process": {"cpu_seconds": time.process_time(), "peak_memory_bytes": 1 << 20},
            "records": self.records[since:],
        }

    def answer(self, number: int, method: str, params: dict[str, Any]) -> Any:
        if method == "initialize":
            self.settings = params["initializationOptions"]
            return {"capabilities": {}}
        if method == "textDocument/inlineCompletion":
            if len(self.records) == self.settings.get("die_at"):
                sys.exit("the oracle has had enough")
            if len(self.records) == self.settings.get("garble_at"):
                sys.stdout.buffer.write(b"Content-Length: many\r\n\r\n")
                sys.stdout.buffer.flush()
            return self.complete(number, params)
        if method == "mercury/statistics":
            return self.statistics(params["since"])
        return None


def main() -> None:
    oracle = Oracle()
    while message := read():
        method, params = message["method"], message.get("params", {})
        if method == "textDocument/didOpen":
            oracle.text = params["textDocument"]["text"]
        elif method == "textDocument/didChange":
            oracle.change(params)
        elif method == "exit":
            return
        elif "id" in message:
            send(id=message["id"], result=oracle.answer(message["id"], method, params))


if __name__ == "__main__":
    main()
