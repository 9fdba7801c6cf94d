"""What comes over the wire at the wrong time, or should not come at all."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsp.wire import SCRIPTED, UTF16, serving

from mercury_lsp.lsp.wire import LIMIT_BYTES, read_message

PARSE_ERROR, INVALID_REQUEST, NOT_INITIALIZED = -32700, -32600, -32002
TEXTS = {"textDocument": {"uri": "a"}, "position": {"line": 0, "character": 0}}
COMPLETION = {**TEXTS, "context": {"triggerKind": 1}}


GARBAGE = [
    (b"{{{{{", PARSE_ERROR),
    (b"", PARSE_ERROR),
    (b"\xff\xfe\x00", PARSE_ERROR),
    (b"[" * 100_000, PARSE_ERROR),
    (b"[]", INVALID_REQUEST),
    (b"1", INVALID_REQUEST),
    (b'{"id": 1, "method": "shutdown"}', INVALID_REQUEST),
]
MISSHAPEN: list[dict[str, Any]] = [
    {"method": 5, "params": {}},
    {"method": "textDocument/didOpen", "params": "text"},
    {"method": "textDocument/didChange", "params": {"textDocument": None}},
    {"method": "$/cancelRequest", "params": {"id": 12345}},
    {"method": "$/cancelRequest"},
    {"id": "nobody asked", "result": {}},
    {"id": [1], "error": "unwell"},
    {"id": {}, "method": "initialize"},
    {"method": "notebookDocument/didChange", "params": []},
    {"method": "mercury/unheard of"},
]


async def messages(data: bytes) -> list[bytes]:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    found = []
    while (message := await read_message(stream)) is not None:
        found.append(message)
    return found


def framed(body: bytes, header: bytes = b"Content-Length: ") -> bytes:
    return header + b"%d\r\n\r\n" % len(body) + body


@settings(deadline=None)
@given(st.lists(st.binary()))
async def test_messages_are_read_back_as_they_were_framed(bodies: list[bytes]) -> None:
    assert await messages(b"".join(map(framed, bodies))) == bodies


@settings(deadline=None)
@given(st.binary(max_size=200))
async def test_whatever_comes_the_stream_is_read_to_its_end(data: bytes) -> None:
    assert isinstance(await messages(data), list)


@pytest.mark.parametrize(
    "before",
    [
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n",
        b"nonsense\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: ten\r\n\r\n",
        b"x" * 200_000 + b"\r\n",
        b"\r\n\r\n",
    ],
    ids=["another", "nonsense", "negative", "word", "long", "empty"],
)
async def test_lines_that_are_no_length_are_passed_over(before: bytes) -> None:
    assert await messages(before + framed(b"{}")) == [b"{}"]


async def test_the_name_of_a_header_may_be_spelt_in_any_case() -> None:
    assert await messages(framed(b"{}", b"content-LENGTH:")) == [b"{}"]


@pytest.mark.parametrize("length", [b"%d" % (LIMIT_BYTES + 1), b"9" * 30, b"9" * 5000])
async def test_a_message_too_long_to_be_one_ends_the_conversation(length: bytes) -> None:
    assert await messages(b"Content-Length: " + length + b"\r\n\r\n" + framed(b"{}")) == []


async def test_a_message_cut_short_is_none() -> None:
    assert await messages(b"Content-Length: 5\r\n\r\n{}") == []


async def test_what_is_not_json_rpc_is_answered_as_its_specification_says() -> None:
    async with serving(SCRIPTED) as wire:
        for body, _ in GARBAGE:
            wire.raw(framed(body))
        await wire.initialize()
        assert [answer["error"]["code"] for answer in wire.nameless] == [c for _, c in GARBAGE]
        assert (await wire.shut_down())[0] == 0


async def test_messages_of_the_wrong_shape_end_nothing() -> None:
    async with serving([*SCRIPTED, '{"writes": "abc"}']) as wire:
        await wire.initialize()
        for message in MISSHAPEN:
            wire.send(message)
        await wire.hear("mercury/status", state="ready")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"][0]["insertText"] == "abc"
        code, log = await wire.shut_down()
    assert code == 0
    assert "Traceback" not in log


async def test_nothing_but_initialize_is_answered_before_it() -> None:
    async with serving(SCRIPTED) as wire:
        early = await wire.ask("textDocument/inlineCompletion", COMPLETION)
        wire.open("h = \n")
        await wire.initialize()
        again = await wire.ask("initialize", {"processId": None, "capabilities": {}})
    assert early["error"]["code"] == NOT_INITIALIZED
    assert again["error"]["code"] == INVALID_REQUEST


async def test_nothing_but_exit_is_heard_after_a_shutdown() -> None:
    async with serving(SCRIPTED) as wire:
        await wire.initialize()
        await wire.result("shutdown", None)
        late = await wire.ask("textDocument/inlineCompletion", COMPLETION)
        wire.notify("exit", None)
        code, _ = await wire.end()
    assert late["error"]["code"] == INVALID_REQUEST
    assert code == 0


async def test_a_shutdown_answers_the_requests_that_are_under_way() -> None:
    scenario = {"writes": "abcd " * 300, "endless": True}
    async with serving([*SCRIPTED, json.dumps(scenario)]) as wire:
        await wire.initialize(
            initializationOptions={"invokedDeadlineMs": 60_000, "maxTokens": 1024}
        )
        await wire.hear("mercury/status", state="ready")
        wire.open("h = (\n")
        _, answer = wire.begin(0, 5)
        code, _ = await wire.shut_down()
        assert answer.done()
    assert code == 0


async def test_a_client_that_says_little_of_itself_is_served() -> None:
    async with serving([*SCRIPTED, '{"writes": "abc"}']) as wire:
        await wire.initialize({})
        wire.open("h = \n")
        async with asyncio.timeout(60):
            while not (await wire.complete(0, 4))["result"]:
                pass
        assert {message["method"] for message in wire.heard} == set()


async def test_a_client_that_refuses_what_it_offered_is_served() -> None:
    refusal = {"code": -32601, "message": "not here"}
    offered = {"configuration": True, "didChangeConfiguration": {"dynamicRegistration": True}}
    async with serving([*SCRIPTED, '{"writes": "abc"}']) as wire:
        for method in (
            "workspace/configuration",
            "client/registerCapability",
            "window/workDoneProgress/create",
        ):
            wire.replies[method] = refusal
        await wire.initialize({**UTF16, "workspace": offered})
        await wire.hear("client/registerCapability")
        await wire.hear("mercury/status", state="ready")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"]
        code, log = await wire.shut_down()
    assert code == 0
    assert "Traceback" not in log
