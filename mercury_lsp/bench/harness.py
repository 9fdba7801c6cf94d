"""Starts real servers over stdio, plays a trace or gaps into them and collects the figures."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mercury_lsp.bench.client import Client
from mercury_lsp.bench.editor import INVOKED, Editor
from mercury_lsp.bench.gaps import Case, judge, source_text
from mercury_lsp.bench.record import METHOD, Record, Statistics
from mercury_lsp.bench.replay import Pace, Played, play
from mercury_lsp.bench.report import Process, TraceReport, sum_up
from mercury_lsp.bench.trace import Trace
from mercury_lsp.errors import ServerGone
from mercury_model import children

SERVER = (*children.interpreter(), "-m", "mercury_lsp", "--stdio")
READY_SECONDS = 120.0
"""How long weights may take to load."""

_POLL_SECONDS = 0.02

Progress = Callable[[str, int, int], None]
"""What is done, and how many steps of how many."""


@dataclass
class Server:
    """A server that is ready, and what was measured on it so far.

    `answered_ms` is from its start to its answer to `initialize`, `start_ms` until it is ready.
    """

    mode: str
    client: Client
    answered_ms: float
    start_ms: float
    ready: Statistics
    seen: int
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    played: list[Played] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    async def statistics(self) -> Statistics:
        """What the server tells since it was last asked."""
        raw = await self.client.ask(METHOD, {"since": self.seen})
        statistics = Statistics.from_json(raw)
        if statistics.dropped:
            raise ServerGone(
                "The server forgot some of its requests.", "Ask for its statistics more often."
            )
        self.seen = statistics.next
        return statistics

    def run(self) -> TraceReport:
        """The figures."""
        identity = (self.mode, self.ready.model or "", self.ready.runtime or "")
        process = Process(self.start_ms, self.cpu_seconds, self.peak_memory_bytes)
        return sum_up(identity, self.played, self.records, process)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was offered for a gap; `offered` is empty when nothing was.

    `missed`: its deadline ended it, so that it says nothing about the model.
    """

    case: Case
    offered: str
    exact: bool
    similarity: float
    round_trip_ms: float
    steps: int
    tokens: int
    missed: bool


@dataclass(frozen=True, slots=True)
class GapRun:
    """One mode over the gaps."""

    mode: str
    model: str
    runtime: str
    filled: tuple[Filled, ...]

    @property
    def exact(self) -> int:
        """How many gaps were filled word for word."""
        return sum(gap.exact for gap in self.filled)

    @property
    def similarity(self) -> float:
        """The mean over all gaps."""
        return sum(gap.similarity for gap in self.filled) / max(1, len(self.filled))

    @property
    def tokens_per_step(self) -> float:
        """Settled tokens for each denoising or decoding call."""
        steps = sum(gap.steps for gap in self.filled)
        return sum(gap.tokens for gap in self.filled) / max(1, steps)


@asynccontextmanager
async def serving(
    mode: str, settings: Mapping[str, Any], command: Sequence[str] = SERVER
) -> AsyncIterator[Server]:
    """A server with its weights loaded. Raises ServerGone if it does not come so far."""
    started_ns = time.perf_counter_ns()
    client = await Client.start(command, {**settings, "mode": mode})
    answered_ms = (time.perf_counter_ns() - started_ns) / 1e6
    try:
        ready = await _ready(client)
        start_ms = (time.perf_counter_ns() - started_ns) / 1e6
        yield Server(mode, client, answered_ms, start_ms, ready, seen=ready.next)
    finally:
        await client.stop()


async def replay(
    traces: Sequence[Trace],
    modes: Sequence[str],
    settings: Mapping[str, Any],
    pace: Callable[[], Pace],
    progress: Progress,
    command: Sequence[str] = SERVER,
) -> tuple[TraceReport, ...]:
    """Play the traces once for each mode, session by session in turn, so that all fare alike.

    Several are typed at once, each into documents of its own, and beside a session of one file
    those of others.
    """
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(mode, settings, command)) for mode in modes
        ]
        count = len(traces[0].sessions)
        total = count * len(servers)
        for number in range(count):
            sessions = [
                trace.sessions[(number + editor) % count] for editor, trace in enumerate(traces)
            ]
            # Whoever begins has the cooler processor; it is not always the same.
            order = servers if number % 2 == 0 else servers[::-1]
            for turn, server in enumerate(order):
                source = sessions[0].source
                progress(f"{server.mode}: {source}", number * len(servers) + turn, total)
                before = (await server.statistics()).cpu_seconds
                server.played += await asyncio.gather(
                    *(
                        play(
                            session,
                            Editor(server.client),
                            f"file:///bench/{number}.{editor}/{session.source}",
                            pace(),
                        )
                        for editor, session in enumerate(sessions)
                    )
                )
                after = await server.statistics()
                server.records.extend(after.records)
                server.cpu_seconds += after.cpu_seconds - before
                server.peak_memory_bytes = after.peak_memory_bytes
        progress("done", total, total)
        return tuple(server.run() for server in servers)


async def fill_gaps(
    cases: Sequence[Case],
    modes: Sequence[str],
    settings: Mapping[str, Any],
    progress: Progress,
    command: Sequence[str] = SERVER,
) -> tuple[GapRun, ...]:
    """Ask for every gap once in each mode, as if by key; only the first item counts."""
    runs = []
    for turn, mode in enumerate(modes):
        async with serving(mode, settings, command) as server:
            filled = []
            for number, case in enumerate(cases):
                progress(
                    f"{mode}: {case.file}", turn * len(cases) + number, len(cases) * len(modes)
                )
                filled.append(await _fill(server, case, number))
            runs.append(
                GapRun(mode, server.ready.model or "", server.ready.runtime or "", tuple(filled))
            )
    progress("done", len(cases) * len(modes), len(cases) * len(modes))
    return tuple(runs)


async def _fill(server: Server, case: Case, number: int) -> Filled:
    text = source_text(case.file)
    editor = Editor(server.client)
    editor.open(f"file:///bench/{number}/{case.file}", text[: case.start], text[case.end :])
    pending = editor.request(INVOKED)
    answer = await pending.answer
    if answer.error is not None:
        raise ServerGone(f"The server refused a gap: {answer.error}", "Run mercury-lsp doctor.")
    ghosts = editor.ghosts(answer)
    document = ghosts[0].accepted(editor.text) if ghosts else editor.text
    editor.close()
    records = (await server.statistics()).records
    judged = judge(case, text, document)
    return Filled(
        case=case,
        offered=ghosts[0].text if ghosts else "",
        exact=judged.exact,
        similarity=round(judged.similarity, 4),
        round_trip_ms=round((answer.received_ns - pending.sent_ns) / 1e6, 3),
        steps=sum(record.steps for record in records),
        tokens=sum(record.tokens for record in records),
        missed=any(record.missed for record in records),
    )


async def _ready(client: Client) -> Statistics:
    """Wait for the weights."""
    waited = 0.0
    while True:
        statistics = Statistics.from_json(await client.ask(METHOD, {"since": 0}))
        if statistics.model is not None:
            return statistics
        if waited >= READY_SECONDS:
            raise client.gone("The server did not load its weights.")
        await asyncio.sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
