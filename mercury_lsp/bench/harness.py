"""Runs real servers over stdio, replays traces or gaps, and collects the measurements."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mercury_lsp.bench.client import Client
from mercury_lsp.bench.editor import INVOKED, Editor
from mercury_lsp.bench.gaps import Case, score, source_text
from mercury_lsp.bench.record import METHOD, Record, Statistics
from mercury_lsp.bench.replay import KeyTiming, SessionResult, play
from mercury_lsp.bench.report import Process, TraceReport, summarize
from mercury_lsp.bench.trace import Trace
from mercury_lsp.errors import ServerGone
from mercury_model import children

SERVER = (*children.interpreter(), "-m", "mercury_lsp", "--stdio")
READY_SECONDS = 120.0
"""The time limit for loading the weights."""

_POLL_SECONDS = 0.02

Progress = Callable[[str, int, int], None]
"""Called with a description, the number of finished steps, and the number of all steps."""


@dataclass
class Server:
    """A ready server and its measurements so far.

    `answered_ms` is the time from process start to the answer to `initialize`; `start_ms` is the
    time until the weights are loaded.
    """

    mode: str
    client: Client
    answered_ms: float
    start_ms: float
    ready: Statistics
    seen: int
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    played: list[SessionResult] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    async def statistics(self) -> Statistics:
        """The server's statistics since the last call."""
        raw = await self.client.ask(METHOD, {"since": self.seen})
        statistics = Statistics.from_json(raw)
        if statistics.dropped:
            raise ServerGone(
                "The server dropped some of its records.", "Request its statistics more often."
            )
        self.seen = statistics.next
        return statistics

    def report(self) -> TraceReport:
        """The report of everything measured so far."""
        identity = (self.mode, self.ready.model or "", self.ready.runtime or "")
        process = Process(self.start_ms, self.cpu_seconds, self.peak_memory_bytes)
        return summarize(identity, self.played, self.records, process)


@dataclass(frozen=True, slots=True)
class FilledGap:
    """The first offer for a gap. `offered` is empty if there was none.

    `missed` means that the deadline ended the request, so the result says little about the model.
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
class GapReport:
    """The results of one mode over all gaps."""

    mode: str
    model: str
    runtime: str
    filled: tuple[FilledGap, ...]

    @property
    def exact(self) -> int:
        """How many gaps were filled exactly."""
        return sum(gap.exact for gap in self.filled)

    @property
    def similarity(self) -> float:
        """The mean similarity over all gaps."""
        return sum(gap.similarity for gap in self.filled) / max(1, len(self.filled))

    @property
    def tokens_per_step(self) -> float:
        """Committed tokens per denoising or decoding call."""
        steps = sum(gap.steps for gap in self.filled)
        return sum(gap.tokens for gap in self.filled) / max(1, steps)


@asynccontextmanager
async def running_server(
    mode: str, settings: Mapping[str, Any], command: Sequence[str] = SERVER
) -> AsyncIterator[Server]:
    """A running server with its weights loaded. Raises ServerGone if it fails to start."""
    started_ns = time.perf_counter_ns()
    client = await Client.start(command, {**settings, "mode": mode})
    answered_ms = (time.perf_counter_ns() - started_ns) / 1e6
    try:
        ready = await _wait_until_ready(client)
        start_ms = (time.perf_counter_ns() - started_ns) / 1e6
        yield Server(
            mode=mode,
            client=client,
            answered_ms=answered_ms,
            start_ms=start_ms,
            ready=ready,
            seen=ready.next,
        )
    finally:
        await client.stop()


async def replay(
    traces: Sequence[Trace],
    modes: Sequence[str],
    settings: Mapping[str, Any],
    timing: Callable[[], KeyTiming],
    progress: Progress,
    command: Sequence[str] = SERVER,
) -> tuple[TraceReport, ...]:
    """Replay the traces once per mode. The modes alternate session by session, for fairness.

    Several traces are typed concurrently, each into its own documents and each at a different file.
    """
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running_server(mode, settings, command))
            for mode in modes
        ]
        count = len(traces[0].sessions)
        total = count * len(servers)
        for number in range(count):
            sessions = [
                trace.sessions[(number + editor) % count] for editor, trace in enumerate(traces)
            ]
            # The first mode runs on a cooler processor, so the order alternates.
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
                            timing(),
                        )
                        for editor, session in enumerate(sessions)
                    )
                )
                after = await server.statistics()
                server.records.extend(after.records)
                server.cpu_seconds += after.cpu_seconds - before
                server.peak_memory_bytes = after.peak_memory_bytes
        progress("done", total, total)
        return tuple(server.report() for server in servers)


async def fill_gaps(
    cases: Sequence[Case],
    modes: Sequence[str],
    settings: Mapping[str, Any],
    progress: Progress,
    command: Sequence[str] = SERVER,
) -> tuple[GapReport, ...]:
    """Request every gap once per mode with an invoked trigger. Only the first item counts."""
    runs = []
    for turn, mode in enumerate(modes):
        async with running_server(mode, settings, command) as server:
            filled = []
            for number, case in enumerate(cases):
                progress(
                    f"{mode}: {case.file}", turn * len(cases) + number, len(cases) * len(modes)
                )
                filled.append(await _fill_gap(server, case, number))
            runs.append(
                GapReport(
                    mode=mode,
                    model=server.ready.model or "",
                    runtime=server.ready.runtime or "",
                    filled=tuple(filled),
                )
            )
    progress("done", len(cases) * len(modes), len(cases) * len(modes))
    return tuple(runs)


async def _fill_gap(server: Server, case: Case, number: int) -> FilledGap:
    text = source_text(case.file)
    editor = Editor(server.client)
    editor.open(f"file:///bench/{number}/{case.file}", text[: case.start], text[case.end :])
    pending = editor.request(INVOKED)
    answer = await pending.answer
    if answer.error is not None:
        raise ServerGone(f"The server failed on a gap: {answer.error}", "Run mercury-lsp doctor.")
    ghosts = editor.ghosts(answer)
    document = ghosts[0].accepted(editor.text) if ghosts else editor.text
    editor.close()
    records = (await server.statistics()).records
    scored = score(case, text, document)
    return FilledGap(
        case=case,
        offered=ghosts[0].text if ghosts else "",
        exact=scored.exact,
        similarity=round(scored.similarity, 4),
        round_trip_ms=round((answer.received_ns - pending.sent_ns) / 1e6, 3),
        steps=sum(record.steps for record in records),
        tokens=sum(record.tokens for record in records),
        missed=any(record.missed for record in records),
    )


async def _wait_until_ready(client: Client) -> Statistics:
    """Wait until the weights are loaded."""
    waited = 0.0
    while True:
        statistics = Statistics.from_json(await client.ask(METHOD, {"since": 0}))
        if statistics.model is not None:
            return statistics
        if waited >= READY_SECONDS:
            raise client.server_gone("The server did not load its weights.")
        await asyncio.sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
