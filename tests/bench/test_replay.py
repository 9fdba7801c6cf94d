"""The replay and its client, against a server that knows the text to be typed."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from mercury_lsp.bench.client import Client, PendingRequest
from mercury_lsp.bench.editor import Editor
from mercury_lsp.bench.gaps import Case, cases, source_text
from mercury_lsp.bench.harness import fill_gaps, replay, running_server
from mercury_lsp.bench.replay import HumanTiming, right_length
from mercury_lsp.bench.sources import sources
from mercury_lsp.bench.trace import Key, Session, Trace, keystrokes, type_out
from mercury_lsp.errors import ServerGone

ORACLE = (sys.executable, str(Path(__file__).parent / "oracle_server.py"))
SHORT = Session(
    source="f.py",
    before="def f(x):\n    ",
    after="\n\ng = 1\n",
    target="return x\n    # end",
    keys=(
        Key(100, 0, "r", 1),
        Key(100, 0, "w", -1),
        Key(100, 1, "", 1),
        *(Key(100, 0, c, n) for n, c in enumerate("eturn x", 2)),
        Key(100, 0, "\n    ", 13),
        *(Key(100, 0, c, n) for n, c in enumerate("# end", 14)),
    ),
)


class AfterEachAnswer:
    """Presses the next key when the last request is answered, without a clock."""

    def restart(self) -> None:
        pass

    async def wait(self, due_ms: float, pending: PendingRequest) -> None:
        await pending.answer


def silent(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def knowing(*sessions: Session, **more: Any) -> dict[str, Any]:
    return {"texts": [s.before + s.target + s.after for s in sessions], **more}


async def test_a_perfect_server_saves_every_key_but_the_first_and_the_accepting_ones() -> None:
    trace = Trace(0, (SHORT,))
    (run,) = await replay([trace], ["m"], knowing(SHORT), AfterEachAnswer, silent, ORACLE)
    # Accept the first line as the document opens, press Enter, accept the second.
    assert (run.keys, run.accepted) == (3, 2)
    assert run.saved == keystrokes(SHORT.target) - run.keys
    assert run.counts.requests == run.counts.calls == 4
    assert (run.counts.shown, run.counts.nothing) == (2, 2)
    assert run.tokens_per_step == 2
    assert run.model == "oracle"


async def test_a_silent_server_saves_nothing_and_gets_a_request_for_every_key() -> None:
    trace = Trace(0, (SHORT, SHORT))
    runs = await replay([trace], ["a", "b"], {"texts": []}, AfterEachAnswer, silent, ORACLE)
    for run in runs:
        assert run.keys == 2 * len(SHORT.keys)
        assert run.saved == run.accepted == 0
        assert run.counts.requests == run.keys + 2
        assert run.counts.nothing == run.counts.requests
        assert run.first.count == 2
    assert [run.mode for run in runs] == ["a", "b"]


async def test_several_editors_type_at_once_into_documents_of_their_own() -> None:
    other = dataclasses.replace(SHORT, source="g.py", before="def g(x):\n    ")
    traces = [Trace(0, (SHORT, other)), Trace(1, (SHORT, other)), Trace(2, (other, SHORT))]
    settings = knowing(SHORT, other)
    (run,) = await replay(traces, ["m"], settings, AfterEachAnswer, silent, ORACLE)
    assert (run.sessions, run.keys, run.accepted) == (6, 6 * 3, 6 * 2)
    assert run.first.count == 6


async def test_a_whole_trace_of_real_files_ends_with_every_target_written() -> None:
    trace = type_out(sources("trace"))
    (run,) = await replay([trace], ["m"], knowing(*trace.sessions), AfterEachAnswer, silent, ORACLE)
    assert run.sessions == len(trace.sessions)
    written = sum(keystrokes(session.target) for session in trace.sessions)
    assert 0.5 * written < run.saved < written


async def test_at_any_speed_every_request_is_counted_once() -> None:
    trace = type_out(sources("trace")).cut(20)
    (run,) = await replay(
        [trace], ["m"], knowing(*trace.sessions), lambda: HumanTiming(speed=1e6), silent, ORACLE
    )
    assert run.counts.requests == run.keys + len(trace.sessions)
    assert run.counts.requests == run.counts.shown + run.counts.nothing


async def test_an_error_quotes_the_last_output_of_a_server_that_crashed() -> None:
    trace = Trace(0, (SHORT,))
    with pytest.raises(ServerGone, match="had enough"):
        await replay([trace], ["m"], knowing(SHORT, die_at=2), AfterEachAnswer, silent, ORACLE)


async def test_a_server_that_violates_the_protocol_is_an_error() -> None:
    trace = Trace(0, (SHORT,))
    with pytest.raises(ServerGone, match="not LSP"):
        await replay([trace], ["m"], knowing(SHORT, garble_at=1), AfterEachAnswer, silent, ORACLE)


async def test_a_command_that_is_not_a_server_is_an_error() -> None:
    with pytest.raises(ServerGone):
        async with running_server("m", {}, (sys.executable, "-c", "print('hello')")):
            raise AssertionError("it never gets ready")


async def test_the_server_ends_with_the_harness() -> None:
    client = await Client.start(ORACLE, {"texts": []})
    assert await client.stop() == 0


async def test_positions_count_utf_16_units_around_emoji() -> None:
    text = "x = '😀é' # ab\nyy"
    cursor = text.index("b")
    client = await Client.start(ORACLE, {"texts": [text]})
    editor = Editor(client)
    editor.open("file:///emoji.py", text[:cursor], text[cursor:])
    editor.edit(1, "a")
    answer = await editor.request().answer
    assert [ghost.text for ghost in editor.ghosts(answer)] == ["b"]
    await client.stop()


def test_an_item_with_a_range_replaces_it() -> None:
    editor = Editor.__new__(Editor)
    editor.text, editor.cursor = "f(😀)\n", 3
    item = {
        "insertText": "😀, 1)",
        "range": {"start": {"line": 0, "character": 2}, "end": {"line": 0, "character": 5}},
    }
    assert editor._ghost(item).accepted(editor.text) == "f(😀, 1)\n"


@pytest.mark.parametrize(
    ("offered", "start", "taken"),
    [
        ("ab", 0, 2),
        ("ab", 1, 1),
        ("ab\ncd", 1, 4),
        ("ab\ncd\nef", 1, 4),
        ("ab\ncx", 1, 1),
        ("ax", 1, 0),
        ("abc", 1, 0),
        ("a", 0, 1),
        ("ab\nc", 1, 3),
        ("xb", 1, 0),
        ("ab\n", 2, 1),
        ("", 0, 0),
    ],
)
def test_an_offer_is_accepted_to_its_end_or_in_whole_right_lines(
    offered: str, start: int, taken: int
) -> None:
    assert right_length(offered, "ab\ncd", start) == taken


async def test_the_oracle_fills_single_lines_exactly_and_blocks_not() -> None:
    some = [case for case in cases() if case.kind in ("whole line", "arguments", "block")][:9]
    texts = [source_text(case.file) for case in some]
    (run,) = await fill_gaps(some, ["m"], {"texts": texts}, silent, ORACLE)
    for gap in run.filled:
        assert gap.steps == 1
        assert gap.exact == (gap.case.kind == "whole line"), gap
    assert 0 < run.exact < len(some)
    assert 0 < run.similarity < 1


async def test_a_gap_without_an_offer_is_not_exact() -> None:
    case = Case(cases()[0].file, "rest of line", 10, 14)
    (run,) = await fill_gaps([case], ["m"], {"texts": []}, silent, ORACLE)
    assert run.filled[0].offered == ""
    assert not run.filled[0].exact
