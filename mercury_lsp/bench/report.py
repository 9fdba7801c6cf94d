"""Computes the report of a replay from its records. Pure: no clock, no terminal.

Times are in milliseconds. Percentiles use the nearest-rank method. A request that the next key
cancelled counts with the time it had taken; leaving it out would flatter the server.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mercury_lsp.bench.record import Record
from mercury_lsp.bench.replay import SessionResult

STAGES = ("queue", "context", "prefill", "denoise", "tidy", "wire")
"""The stages of a request, in order. `wire` is the time that the server does not measure."""

CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """The distribution of a time in milliseconds. All zeros if there are no values."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "LatencySummary":
        """Summarize `values`."""
        ordered = sorted(values)
        if not ordered:
            return cls(count=0, mean=0.0, p50=0.0, p90=0.0, p95=0.0, p99=0.0, maximum=0.0)
        return cls(
            count=len(ordered),
            mean=round(math.fsum(ordered) / len(ordered), 3),
            p50=_percentile(ordered, 0.5),
            p90=_percentile(ordered, 0.9),
            p95=_percentile(ordered, 0.95),
            p99=_percentile(ordered, 0.99),
            maximum=round(ordered[-1], 3),
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """Request counts.

    `calls` ran the model and `cached` were answered from the cache. Every request was either
    `shown`, answered with `nothing`, overtaken by the next key (`late`), or `failed`. `missed`
    requests were ended by the deadline before the draft was finished.
    """

    requests: int
    calls: int
    cached: int
    shown: int
    nothing: int
    late: int
    missed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Process:
    """The resources that the server process used during the trace."""

    start_ms: float
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class TraceReport:
    """The results of one mode over the trace.

    `stages` splits the time of model calls. `call` is the server time of model calls, `request`
    that of all requests, and `first` that of the first request in each document. `shown` is the
    round trip of requests that showed a completion. `curve` holds percentiles 0 to 100 of `call`.
    """

    mode: str
    model: str
    runtime: str
    sessions: int
    keys: int
    typed: int
    accepted: int
    saved: int
    counts: Counts
    tokens: int
    steps: int
    stages: dict[str, LatencySummary]
    call: LatencySummary
    request: LatencySummary
    first: LatencySummary
    shown: LatencySummary
    curve: tuple[float, ...]
    process: Process

    @property
    def tokens_per_step(self) -> float:
        """Committed tokens per denoising or decoding call."""
        return self.tokens / self.steps if self.steps else 0.0

    @property
    def saved_share(self) -> float:
        """The share of keys saved, of those needed without completions."""
        return self.saved / (self.saved + self.keys) if self.keys else 0.0

    @property
    def cpu_ms_per_key(self) -> float:
        """CPU time of the server per key, in milliseconds."""
        return self.process.cpu_seconds * 1000 / self.keys if self.keys else 0.0


def summarize(
    identity: tuple[str, str, str],
    played: Sequence[SessionResult],
    records: Sequence[Record],
    process: Process,
) -> TraceReport:
    """The report of one replay. `identity` is (mode, model, runtime).

    Server records are matched to client requests by request id. Other records, for example of a
    warm-up, are ignored.
    """
    asked = {request.id: request for session in played for request in session.asked}
    records = [record for record in records if record.request in asked]
    calls = [record for record in records if record.called]
    client_requests = {record.request: asked[int(record.request)] for record in records}
    firsts = [record for record in records if client_requests[record.request].first]
    mode, model, runtime = identity
    return TraceReport(
        mode=mode,
        model=model,
        runtime=runtime,
        sessions=len(played),
        keys=sum(session.keys for session in played),
        typed=sum(session.typed for session in played),
        accepted=sum(session.accepted for session in played),
        saved=sum(session.saved for session in played),
        counts=_counts(records, len(asked)),
        tokens=sum(record.tokens for record in calls),
        steps=sum(record.steps for record in calls),
        stages={
            **{
                stage: LatencySummary.of(getattr(call, f"{stage}_ms") for call in calls)
                for stage in STAGES
                if stage != "wire"
            },
            "wire": LatencySummary.of(
                max(0.0, client_requests[call.request].round_trip_ms - call.total_ms)
                for call in calls
            ),
        },
        call=LatencySummary.of(call.total_ms for call in calls),
        request=LatencySummary.of(record.total_ms for record in records),
        first=LatencySummary.of(record.total_ms for record in firsts),
        shown=LatencySummary.of(
            client_requests[record.request].round_trip_ms
            for record in records
            if record.outcome == "shown"
        ),
        curve=_curve([call.total_ms for call in calls]),
        process=process,
    )


def _counts(records: Sequence[Record], requests: int) -> Counts:
    outcomes = Counter(record.outcome for record in records)
    return Counts(
        requests=requests,
        calls=sum(record.called for record in records),
        cached=sum(record.cached for record in records),
        shown=outcomes["shown"],
        nothing=outcomes["nothing"],
        late=outcomes["cancelled"] + outcomes["superseded"] + outcomes["stale"],
        missed=sum(record.missed for record in records),
        failed=outcomes["failed"] + outcomes["not_ready"],
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, to the microsecond."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)


def _curve(values: Sequence[float]) -> tuple[float, ...]:
    if not values:
        return ()
    ordered = sorted(values)
    return tuple(_percentile(ordered, n / (CURVE_POINTS - 1)) for n in range(CURVE_POINTS))
