"""Reports of records whose statistics are known."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mercury_lsp.bench import document, plot, table
from mercury_lsp.bench.document import Environment
from mercury_lsp.bench.gaps import SEED, cases
from mercury_lsp.bench.harness import FilledGap, GapReport
from mercury_lsp.bench.record import Record, Statistics
from mercury_lsp.bench.replay import ClientRequest, SessionResult
from mercury_lsp.bench.report import STAGES, LatencySummary, Process, TraceReport, summarize
from mercury_lsp.bench.sources import sources
from mercury_lsp.bench.trace import type_out
from mercury_lsp.errors import ServerGone, SettingsError
from mercury_lsp.machine import Machine

CALL = Record(
    sequence=0,
    request=1,
    trigger="automatic",
    outcome="shown",
    cached=False,
    missed=False,
    queue_ms=1.0,
    context_ms=2.0,
    prefill_ms=4.0,
    denoise_ms=40.0,
    tidy_ms=3.0,
    total_ms=50.0,
    prefill_chunks=64,
    steps=4,
    tokens=10,
    characters=12,
)
CACHED = replace(CALL, request=2, cached=True, prefill_chunks=0, steps=0, tokens=0, total_ms=2.0)
LATE = replace(CALL, request=3, outcome="cancelled", missed=False, total_ms=90.0, tokens=2)
MISSED = replace(CALL, request=4, outcome="nothing", missed=True, total_ms=150.0)
UNRELATED = replace(CALL, request=99, total_ms=9_999.0)
PROCESS = Process(start_ms=800.0, cpu_seconds=0.6, peak_memory_bytes=300 << 20)
PLAYED = SessionResult(
    keys=3,
    accepted=1,
    saved=7,
    typed=2,
    asked=tuple(
        ClientRequest(n, trip, n == 1) for n, trip in enumerate((55.0, 3.0, 91.0, 140.0), 1)
    ),
)
HERE = Environment(
    when="2026-01-01T00:00:00+00:00",
    commit="abc",
    machine=Machine(
        system="Linux",
        processor="A processor",
        cores=2,
        threads=2,
        flags=("avx2",),
        memory_bytes=8 << 30,
    ),
    versions={"python": "3.12"},
    settings={"model": "tiny"},
)


def run_of(*records: Record, mode: str = "diffusion") -> TraceReport:
    return summarize((mode, "tiny", "torch"), [PLAYED], records, PROCESS)


def everything() -> TraceReport:
    return run_of(CALL, CACHED, LATE, MISSED, UNRELATED)


def shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def gap_run(mode: str = "diffusion") -> GapReport:
    filled = [
        FilledGap(
            case=case,
            offered="text\nmore" if n % 3 else "",
            exact=n % 3 == 1,
            similarity=0.5,
            round_trip_ms=12.0,
            steps=3,
            tokens=6,
            missed=False,
        )
        for n, case in enumerate(cases())
    ]
    return GapReport(mode, "tiny", "torch", tuple(filled))


def test_every_request_has_exactly_one_outcome() -> None:
    counts = everything().counts
    assert counts.requests == 4
    assert counts.shown + counts.nothing + counts.late + counts.failed == counts.requests
    assert (counts.calls, counts.cached, counts.missed, counts.late) == (3, 1, 1, 1)


def test_requests_that_were_not_part_of_the_trace_do_not_count() -> None:
    assert everything() == run_of(CALL, CACHED, LATE, MISSED)


def test_a_cancelled_request_counts_with_the_time_it_took() -> None:
    run = everything()
    assert run.call.count == 3
    assert (run.call.p50, run.call.maximum) == (90.0, 150.0)
    assert run.request.mean == pytest.approx((50 + 2 + 90 + 150) / 4)


def test_wire_time_is_the_rest_of_the_round_trip_and_never_negative() -> None:
    wire = everything().stages["wire"]
    assert (wire.count, wire.maximum) == (3, 5.0)
    assert wire.mean == pytest.approx((5 + 1 + 0) / 3, abs=1e-3)


def test_stages_are_those_of_model_calls_in_order() -> None:
    run = everything()
    assert tuple(run.stages) == STAGES
    assert run.stages["denoise"].p99 == 40.0
    assert run.stages["queue"].count == 3


def test_rates_are_computed_from_totals() -> None:
    run = everything()
    assert run.tokens_per_step == pytest.approx((10 + 2 + 10) / 12)
    assert run.saved_share == pytest.approx(0.7)
    assert run.cpu_ms_per_key == pytest.approx(200)
    assert run.first == LatencySummary.of([50.0])
    assert run.shown == LatencySummary.of([55.0, 3.0])


def test_a_run_without_requests_is_all_zeros() -> None:
    run = summarize(("diffusion", "tiny", "torch"), [], [], PROCESS)
    assert run.tokens_per_step == run.saved_share == run.cpu_ms_per_key == 0
    assert run.call == LatencySummary.of([])
    assert run.curve == ()
    assert "-" in shown(table.of_trace(HERE, [type_out(sources("trace"))], 1.0, [run]))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=63))
def test_percentiles_are_values_that_occurred_and_rise(values: list[float]) -> None:
    spread = LatencySummary.of(values)
    ranks = [spread.p50, spread.p90, spread.p95, spread.p99, spread.maximum]
    assert ranks == sorted(ranks)
    assert set(ranks) <= {round(value, 3) for value in values}
    assert math.isclose(spread.mean, sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-3)


def test_the_median_of_two_is_the_lower_and_p90_of_ten_the_ninth() -> None:
    assert LatencySummary.of([1.0, 2.0]).p50 == 1.0
    assert LatencySummary.of([float(n) for n in range(1, 11)]).p90 == 9.0


def test_the_curve_runs_from_the_fastest_to_the_slowest_call() -> None:
    curve = everything().curve
    assert len(curve) == 101
    assert (curve[0], curve[50], curve[100]) == (50.0, 90.0, 150.0)


def test_the_json_has_the_figures_of_the_table_and_the_environment() -> None:
    trace = type_out(sources("trace"))
    report = json.loads(document.of_trace(HERE, [trace], 1.0, [everything()]))
    assert report["trace"]["digest"] == trace.digest
    assert report["machine"]["flags"] == ["avx2"]
    assert report["commit"] == "abc"
    assert report["runs"][0]["counts"]["calls"] == 3
    assert report["runs"][0]["stages"]["denoise"]["p50"] == 40.0
    assert report["runs"][0]["tokens_per_step"] == pytest.approx(22 / 12, abs=1e-4)


def test_the_table_names_machine_trace_modes_and_every_stage() -> None:
    runs = [everything(), run_of(CALL, mode="autoregressive")]
    trace = type_out(sources("trace"))
    text = shown(table.of_trace(HERE, [trace], 4.0, runs))
    for words in ("A processor", "avx2", trace.digest, "autoregressive", "4 times", *STAGES):
        assert words in text
    assert "7 (70 %)" in text


def test_a_table_of_gaps_shows_each_and_sums_up_by_kind() -> None:
    text = shown(table.of_gaps(HERE, [gap_run(), gap_run("autoregressive")]))
    assert "✓ text" in text
    assert "∅" in text
    assert "20 (33 %)" in text
    assert "24" in text


def test_gaps_as_json_hold_every_answer() -> None:
    report = json.loads(document.of_gaps(HERE, SEED, [gap_run()]))
    assert report["runs"][0]["exact"] == 20
    assert report["runs"][0]["gaps"][1]["offered"] == "text\nmore"
    assert report["runs"][0]["gaps"][1]["case"]["file"]


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot.save(path, HERE, [everything(), run_of(CALL, mode="verified")], deadline_ms=150)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_nothing_is_still_a_plot(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot.save(path, HERE, [run_of()], deadline_ms=150)
    assert path.stat().st_size > 0


def test_a_plot_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written"):
        plot.save(tmp_path / "absent" / "plot.png", HERE, [everything()], deadline_ms=150)


def test_statistics_with_missing_fields_are_an_error() -> None:
    with pytest.raises(ServerGone, match="expected fields"):
        Statistics.from_json({"model": None, "next": 0})


def test_statistics_before_the_weights_are_loaded_have_no_model() -> None:
    raw = {
        "model": None,
        "next": 0,
        "dropped": 0,
        "process": {"cpu_seconds": 0.1, "peak_memory_bytes": 1},
        "records": [],
    }
    statistics = Statistics.from_json(raw)
    assert statistics.model is None
    assert statistics.runtime is None
