"""Figures out of records: pure, no clock, no terminal.

Times are milliseconds. Every percentile is a value that occurred (nearest rank). What the next
key cancelled counts with the time it had taken until then; leaving it out would flatter.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mercury_lsp.bench.record import Record
from mercury_lsp.bench.replay import Played

STAGES = ("queue", "context", "prefill", "denoise", "tidy", "wire")
"""Where the time of a request goes, in order; `wire` is all that the server does not see."""

CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of milliseconds; all zeros when nothing was measured."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Sum up `values`."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        return cls(
            count=len(ordered),
            mean=round(math.fsum(ordered) / len(ordered), 3),
            p50=_at(ordered, 0.5),
            p90=_at(ordered, 0.9),
            p95=_at(ordered, 0.95),
            p99=_at(ordered, 0.99),
            maximum=round(ordered[-1], 3),
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests went which way.

    `calls` reached the model and `cached` did not need to. Every request was either shown,
    answered with nothing, given up before it was answered since the next key came (`late`), or
    failed. `missed` were ended by their deadline before the draft was finished.
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
    """What the server's process cost while the trace ran."""

    start_ms: float
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class TraceReport:
    """One mode over the trace.

    `stages` split model calls, `call` is their whole time in the server, `request` that of every
    request, `first` that of the first request of each document, `shown` the round trip of those
    that showed something. `curve` holds the 0th to 100th percentile of `call`.
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
    stages: dict[str, Spread]
    call: Spread
    request: Spread
    first: Spread
    shown: Spread
    curve: tuple[float, ...]
    process: Process

    @property
    def tokens_per_step(self) -> float:
        """Settled tokens for each denoising or decoding call."""
        return self.tokens / self.steps if self.steps else 0.0

    @property
    def saved_share(self) -> float:
        """Keys saved, of those that would have been pressed without."""
        return self.saved / (self.saved + self.keys) if self.keys else 0.0

    @property
    def cpu_ms_per_key(self) -> float:
        """CPU time of the server for each key."""
        return self.process.cpu_seconds * 1000 / self.keys if self.keys else 0.0


def sum_up(
    identity: tuple[str, str, str],
    played: Sequence[Played],
    records: Sequence[Record],
    process: Process,
) -> TraceReport:
    """Figures of one run; `identity` is mode, model and runtime.

    Records are matched to what the client saw by the request's number; the others (of a warm-up,
    say) are left out.
    """
    asked = {request.id: request for session in played for request in session.asked}
    records = [record for record in records if record.request in asked]
    calls = [record for record in records if record.called]
    trips = {record.request: asked[int(record.request)] for record in records}
    firsts = [record for record in records if trips[record.request].first]
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
                stage: Spread.of(getattr(call, f"{stage}_ms") for call in calls)
                for stage in STAGES
                if stage != "wire"
            },
            "wire": Spread.of(
                max(0.0, trips[call.request].round_trip_ms - call.total_ms) for call in calls
            ),
        },
        call=Spread.of(call.total_ms for call in calls),
        request=Spread.of(record.total_ms for record in records),
        first=Spread.of(record.total_ms for record in firsts),
        shown=Spread.of(
            trips[record.request].round_trip_ms for record in records if record.outcome == "shown"
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


def _at(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, to the microsecond."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)


def _curve(values: Sequence[float]) -> tuple[float, ...]:
    if not values:
        return ()
    ordered = sorted(values)
    return tuple(_at(ordered, n / (CURVE_POINTS - 1)) for n in range(CURVE_POINTS))
