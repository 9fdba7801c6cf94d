"""The server over real stdio, as an editor sees it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lsp.wire import SCRIPTED, UTF16, Wire, serving

INVOKED, AUTOMATIC = 1, 2
CANCELLED, INVALID = -32800, -32602

TEXTS = [
    ("empty", "", 0, 0),
    ("outside", "h = ", 99, 99),
    ("binary", "\0\0\x01\udcff", 0, 2),
    ("long line", "a" * 1_000_000, 0, 500_000),
    ("huge", "h = a\n" * 1_700_000, 700_000, 4),
    ("broken", 'if (:\n\t  )]}\'"""\n', 1, 2),
    ("crlf", "h = \r\nh = \r\n", 1, 4),
    ("mixed tabs", "if a:\n\tb\n        c\n \t d", 3, 4),
    ("combining", "\U0001f600\u0301" * 50, 0, 51),
    ("in a string", "h = 'ab", 0, 6),
    ("in a comment", "# ab", 0, 3),
    ("in an emoji", "\U0001f469\u200d\U0001f4bb", 0, 1),
]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A server whose model writes "abc(d)", ready."""
    async with serving([*SCRIPTED, json.dumps({"writes": "abc(d)"})]) as wire:
        await wire.initialize()
        await wire.hear("mercury/status", state="ready")
        yield wire


@pytest.fixture
async def endless() -> AsyncIterator[Wire]:
    """A server whose model writes for as long as it may, which is a minute."""
    scenario = {"writes": "abcd " * 300, "endless": True}
    async with serving([*SCRIPTED, json.dumps(scenario)]) as wire:
        await wire.initialize(
            initializationOptions={"invokedDeadlineMs": 60_000, "maxTokens": 1024}
        )
        await wire.hear("mercury/status", state="ready")
        yield wire


def texts(answer: dict[str, Any]) -> list[str]:
    return [item["insertText"] for item in answer["result"]]


async def test_it_advertises_inline_completion_and_nothing_that_would_compete() -> None:
    async with serving(SCRIPTED) as wire:
        capabilities = (await wire.initialize())["capabilities"]
    assert capabilities["inlineCompletionProvider"] == {}
    assert "completionProvider" not in capabilities
    assert capabilities["textDocumentSync"]["change"] == 2


@pytest.mark.parametrize("kind", [INVOKED, AUTOMATIC])
async def test_a_request_is_answered_with_what_the_model_wrote(wire: Wire, kind: int) -> None:
    wire.open("h = \n")
    answer = await wire.complete(0, 4, kind=kind)
    assert texts(answer)[0] == "abc(d)"
    place = {"line": 0, "character": 4}
    assert answer["result"][0]["range"] == {"start": place, "end": place}


async def test_what_was_suggested_is_served_while_it_is_typed(wire: Wire) -> None:
    wire.open("h = \n")
    assert texts(await wire.complete(0, 4, kind=AUTOMATIC)) == ["abc(d)"]
    at = {"line": 0, "character": 4}
    change = {"range": {"start": at, "end": at}, "text": "ab"}
    wire.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": "file:///a.py", "version": 2}, "contentChanges": [change]},
    )
    assert texts(await wire.complete(0, 6, kind=AUTOMATIC)) == ["c(d)"]
    statistics = await wire.result("mercury/statistics", {"since": 1})
    assert [record["cached"] for record in statistics["records"]] == [True]


async def test_positions_are_in_the_units_that_were_agreed_on() -> None:
    utf8 = {**UTF16, "general": {"positionEncodings": ["utf-8", "utf-16"]}}
    async with serving([*SCRIPTED, '{"writes": "abc"}']) as wire:
        agreed = (await wire.initialize(utf8))["capabilities"]["positionEncoding"]
        await wire.hear("mercury/status", state="ready")
        wire.open("# \U0001f600\nh = ''; h = \n".replace("''", "'\U0001f600\u0301é'"))
        line = "h = '\U0001f600\u0301é'; h = "
        column = len(line.encode())
        answer = await wire.complete(1, column)
    assert agreed == "utf-8"
    assert answer["result"][0]["range"]["start"]["character"] == column


async def test_a_cancelled_request_ends_with_the_code_for_it_and_frees_the_model(
    endless: Wire,
) -> None:
    endless.open("h = (\n")
    number, answer = endless.begin(0, 5)
    endless.notify("$/cancelRequest", {"id": number})
    ended = await answer
    after = await endless.complete(9, 9, kind=AUTOMATIC)
    records = (await endless.result("mercury/statistics", {}))["records"]
    assert ended["error"]["code"] == CANCELLED
    assert "error" not in after
    assert records[0]["outcome"] == "cancelled"
    assert records[0]["steps"] < 1024


async def test_of_many_overlapping_requests_each_is_answered_and_the_newest_with_text(
    wire: Wire,
) -> None:
    wire.open("h = \n")
    requests = [wire.begin(0, 4, kind=AUTOMATIC)[1] for _ in range(200)]
    answers = await asyncio.gather(*requests)
    assert all("error" not in answer for answer in answers)
    assert texts(answers[-1]) == ["abc(d)"]


async def test_a_change_stops_the_request_for_the_text_before_it(endless: Wire) -> None:
    endless.open("h = (\n")
    _, answer = endless.begin(0, 5)
    whole = {
        "textDocument": {"uri": "file:///a.py", "version": 2},
        "contentChanges": [{"text": ""}],
    }
    endless.notify("textDocument/didChange", whole)
    assert (await answer)["result"] is None
    [record] = (await endless.result("mercury/statistics", {}))["records"]
    assert record["outcome"] == "stale"


async def test_a_document_closed_while_its_request_runs_gets_nothing(wire: Wire) -> None:
    wire.open("h = \n")
    _, answer = wire.begin(0, 4)
    wire.notify("textDocument/didClose", {"textDocument": {"uri": "file:///a.py"}})
    assert (await answer)["result"] in (None, [])
    assert (await wire.complete(0, 4))["result"] == []


async def test_no_text_keeps_a_request_from_being_answered(wire: Wire) -> None:
    for name, text, line, character in TEXTS:
        wire.open(text, uri=name)
        for kind in (INVOKED, AUTOMATIC):
            answer = await wire.complete(line, character, uri=name, kind=kind)
            assert isinstance(answer["result"], list), name


async def test_edits_of_a_huge_document_land_where_they_were_made(wire: Wire) -> None:
    wire.open("# \x0c\u2028\n" + "abc = 1\r\n" * 1_000_000 + "h = ")
    start, end = {"line": 1_000_001, "character": 0}, {"line": 1_000_001, "character": 9}
    for version, text in enumerate(("a", "ab", "h = "), start=2):
        change = {"range": {"start": start, "end": end}, "text": text}
        document = {"uri": "file:///a.py", "version": version}
        wire.notify(
            "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}
        )
    assert texts(await wire.complete(1_000_001, 4))[0] == "abc(d)"


async def test_an_unknown_language_is_left_alone_until_somebody_asks(wire: Wire) -> None:
    wire.open("h = \n", language="klingon")
    assert (await wire.complete(0, 4, kind=AUTOMATIC))["result"] == []
    assert texts(await wire.complete(0, 4, kind=INVOKED)) != []


async def test_the_selected_menu_entry_begins_what_is_offered(wire: Wire) -> None:
    wire.open("h = e\n")
    start, end = {"line": 0, "character": 4}, {"line": 0, "character": 5}
    selected = {"range": {"start": start, "end": end}, "text": "eff"}
    answer = await wire.complete(0, 5, kind=AUTOMATIC, selectedCompletionInfo=selected)
    assert texts(answer) == ["effabc(d)"]
    assert answer["result"][0]["range"] == {"start": start, "end": end}


async def test_cells_of_a_notebook_are_completed(wire: Wire) -> None:
    cells = [{"kind": 2, "document": f"cell:{n}"} for n in range(2)]
    items = [
        {"uri": f"cell:{n}", "languageId": "python", "version": 1, "text": text}
        for n, text in enumerate(["a = 1", "h = "])
    ]
    notebook = {"uri": "n", "notebookType": "jupyter", "version": 1, "cells": cells}
    wire.notify(
        "notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": items}
    )
    answer = await wire.complete(0, 4, uri="cell:1")
    assert texts(answer)[0] == "abc(d)"
    assert answer["result"][0]["range"]["start"] == {"line": 0, "character": 4}


async def test_settings_of_the_wrong_type_are_named_once_and_the_rest_holds() -> None:
    settings = {"mercury": {"deadlineMs": "fast", "enable": False}}
    async with serving(SCRIPTED) as wire:
        await wire.initialize(initializationOptions=settings)
        said = await wire.hear("window/showMessage")
        await wire.hear("mercury/status", state="off")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"] == []
        wire.notify("workspace/didChangeConfiguration", {"settings": settings})
        code, _ = await wire.shut_down()
    complaints = [m for m in wire.heard if m["method"] == "window/showMessage"]
    assert "mercury.deadlineMs must be a number" in said["params"]["message"]
    assert len(complaints) == 1
    assert code == 0


async def test_a_change_of_configuration_holds_from_the_next_request_on(wire: Wire) -> None:
    wire.open("h = \n")
    wire.notify("workspace/didChangeConfiguration", {"settings": {"disabledLanguages": ["python"]}})
    async with asyncio.timeout(60):
        while (await wire.complete(0, 4))["result"]:
            pass


async def test_settings_that_are_sent_again_load_nothing_again() -> None:
    settings = {"mercury": {"deadlineMs": 1000}}
    async with serving(SCRIPTED) as wire:
        await wire.initialize(initializationOptions=settings)
        wire.notify("workspace/didChangeConfiguration", {"settings": settings})
        await wire.hear("mercury/status", state="ready")
        await wire.shut_down()
    states = [m["params"]["state"] for m in wire.heard if m["method"] == "mercury/status"]
    assert states == ["loading", "ready"]


async def test_configuration_is_pulled_from_a_client_that_has_it_and_again_when_it_changes() -> (
    None
):
    offered = {"configuration": True, "didChangeConfiguration": {"dynamicRegistration": True}}
    async with serving([*SCRIPTED, '{"writes": "abc"}']) as wire:
        wire.replies["workspace/configuration"] = [{"enable": False}]
        await wire.initialize({**UTF16, "workspace": offered})
        await wire.hear("mercury/status", state="off")
        registered = await wire.hear("client/registerCapability")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"] == []
        wire.replies["workspace/configuration"] = [None]
        wire.notify("workspace/didChangeConfiguration", {"settings": None})
        await wire.hear("mercury/status", state="ready")
        assert texts(await wire.complete(0, 4))[0] == "abc"
    [registration] = registered["params"]["registrations"]
    assert registration["method"] == "workspace/didChangeConfiguration"
    assert registration["registerOptions"] == {"section": "mercury"}


async def test_settings_of_other_servers_are_not_for_it(wire: Wire) -> None:
    other = {"python": {"analysis": {}}, "editor": {"tabSize": 4}}
    wire.notify("workspace/didChangeConfiguration", {"settings": other})
    wire.open("h = \n")
    assert texts(await wire.complete(0, 4))[0] == "abc(d)"
    await wire.shut_down()
    assert "window/showMessage" not in {message["method"] for message in wire.heard}


async def test_without_weights_it_says_once_what_mends_it_and_uses_them_when_downloaded(
    tmp_path: Path,
) -> None:
    scenario = {"writes": "abc", "missing": str(tmp_path / "weights")}
    async with serving([*SCRIPTED, json.dumps(scenario)]) as wire:
        wire.replies["window/showMessageRequest"] = {"title": "Download"}
        await wire.initialize()
        offer = await wire.hear("window/showMessageRequest")
        await wire.hear("mercury/status", state="ready")
        wire.open("h = \n")
        assert texts(await wire.complete(0, 4))[0] == "abc"
    assert "Pull them." in offer["params"]["message"]
    assert [m["method"] for m in wire.heard].count("window/showMessageRequest") == 1
    titles = [
        m["params"]["value"]["title"]
        for m in wire.heard
        if m["method"] == "$/progress" and m["params"]["value"]["kind"] == "begin"
    ]
    assert titles == ["Loading mini", "Downloading mini", "Loading mini"]


@pytest.mark.parametrize("problem", ["missing", "altered"])
async def test_weights_that_arrive_by_another_hand_are_picked_up(
    problem: str, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    if problem == "altered":
        weights.touch()
    scenario = {problem: str(weights), "hurry": 30}
    async with serving([*SCRIPTED, json.dumps(scenario)]) as wire:
        wire.replies["window/showMessageRequest"] = {"title": "Not now"}
        await wire.initialize(initializationOptions={"invokedDeadlineMs": 60_000})
        said = await wire.hear("window/showMessageRequest")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"] == []
        if problem == "altered":
            weights.unlink()
        else:
            weights.touch()
        async with asyncio.timeout(60):
            while not (await wire.complete(0, 4))["result"]:
                pass
        asked = [m for m in wire.heard if m["method"] == "window/showMessageRequest"]
    remedy = {"missing": "Pull them.", "altered": "Delete them."}[problem]
    assert said["params"]["message"].endswith(remedy)
    assert asked == [said]


async def test_a_model_that_breaks_as_it_is_loaded_is_reported_without_a_traceback() -> None:
    async with serving([*SCRIPTED, '{"broken": true}']) as wire:
        await wire.initialize()
        said = await wire.hear("window/showMessage")
        logged = await wire.hear("window/logMessage")
        wire.open("h = \n")
        assert (await wire.complete(0, 4))["result"] == []
        code, log = await wire.shut_down()
    assert (
        "mini could not be loaded (OSError). Run: mercury-lsp doctor" in said["params"]["message"]
    )
    assert "OSError in store.<locals>.load" in logged["params"]["message"]
    assert "Traceback" not in log
    assert code == 0


async def test_a_name_that_is_no_model_is_answered_with_those_there_are_and_can_be_mended() -> None:
    async with serving([sys.executable, "-m", "mercury_lsp", "--stdio"]) as wire:
        await wire.initialize(initializationOptions={"model": "maxi"})
        said = await wire.hear("window/showMessage")
        tiny = {"settings": {"mercury": {"model": "tiny"}}}
        wire.notify("workspace/didChangeConfiguration", tiny)
        await wire.hear("mercury/status", state="ready", model="tiny")
    assert "no model called 'maxi'" in said["params"]["message"]
    assert "tiny" in said["params"]["message"]


async def test_a_failing_model_ends_the_request_quietly_and_no_source_is_logged() -> None:
    async with serving([*SCRIPTED, '{"fails": true}']) as wire:
        await wire.initialize()
        await wire.hear("mercury/status", state="ready")
        wire.open("h = abcdefgh\n")
        answer = await wire.complete(0, 4)
        code, log = await wire.shut_down()
    assert answer["result"] is None
    assert code == 0
    assert "RuntimeError" in log
    assert "secret" not in log
    assert "abcdefgh" not in log


async def test_parameters_that_cannot_be_read_are_answered_with_an_error(wire: Wire) -> None:
    answer = await wire.ask("textDocument/inlineCompletion", {"position": "here"})
    assert answer["error"]["code"] == INVALID
    assert "Traceback" not in json.dumps(answer)


async def test_garbage_on_the_wire_is_survived(wire: Wire) -> None:
    wire.raw(b"Content-Length: 5\r\n\r\n{{{{{")
    wire.raw(b"Content-Length: ten\r\nNonsense\r\n\r\n")
    wire.send({"method": "no/such/notification", "params": {"a": [1]}})
    assert (await wire.ask("no/such/request", {}))["error"]["code"] == -32601
    wire.open("h = \n")
    assert texts(await wire.complete(0, 4))[0] == "abc(d)"


async def test_shutting_down_ends_it_with_code_0(wire: Wire) -> None:
    assert (await wire.shut_down())[0] == 0


async def test_an_exit_without_a_shutdown_ends_it_with_code_1(wire: Wire) -> None:
    wire.notify("exit", None)
    assert (await wire.end())[0] == 1


async def test_closing_its_input_ends_it_without_a_traceback(wire: Wire) -> None:
    wire.open("h = \n")
    wire.begin(0, 4)
    assert wire.process.stdin is not None
    wire.process.stdin.close()
    code, log = await wire.end()
    assert code == 1
    assert "Traceback" not in log


async def test_it_ends_when_the_process_of_the_editor_does() -> None:
    parent = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    async with serving(SCRIPTED) as wire:
        await wire.initialize(processId=parent.pid)
        parent.kill()
        await parent.wait()
        assert (await wire.end())[0] == 1
