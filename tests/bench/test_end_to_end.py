"""The bench command with a real server, the bundled model and a real trace. Checks no times."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mercury_lsp.bench.report import STAGES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERCURY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MERCURY_OFFLINE", "1")
    return tmp_path


def bench(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Run it; returns its output and its JSON report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "mercury_lsp", "bench", "--model", "tiny"]
    done = subprocess.run(
        [*command, "--json", str(report), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(report.read_text(encoding="utf-8"))


def test_a_trace_is_replayed_into_a_real_server_in_two_modes(folder: Path) -> None:
    plot = folder / "plot.png"
    printed, report = bench(folder, "--seconds=30", "--speed=10", "--compare=ar", f"--plot={plot}")
    assert [run["mode"] for run in report["runs"]] == ["verified", "autoregressive"]
    for run in report["runs"]:
        counts = run["counts"]
        ways = counts["shown"] + counts["nothing"] + counts["late"] + counts["failed"]
        assert ways == counts["requests"] == run["keys"] + len(report["trace"]["files"])
        assert counts["failed"] == 0
        assert counts["calls"] > 0
        assert tuple(run["stages"]) == STAGES
        assert run["stages"]["denoise"]["count"] == counts["calls"]
        assert run["tokens"] > 0
        assert run["process"]["cpu_seconds"] > 0
        assert run["process"]["peak_memory_bytes"] > 1 << 20
        assert run["model"] == "tiny"
    assert "autoregressive" in printed
    assert "tokens per step" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_gaps_are_filled_through_a_real_server(folder: Path) -> None:
    printed, report = bench(folder, "--gaps", "--limit=4")
    (run,) = report["runs"]
    assert len(run["gaps"]) == 4
    assert run["exact"] == sum(gap["exact"] for gap in run["gaps"])
    assert any(gap["steps"] for gap in run["gaps"])
    assert any(gap["offered"] for gap in run["gaps"])
    assert "as written" in printed


def test_starts_are_timed_until_a_real_server_has_completed_something(folder: Path) -> None:
    printed, report = bench(folder, "--starts=2")
    assert len(report["starts"]) == 2
    for start in report["starts"]:
        assert 0 < start["answered_ms"] < start["loaded_ms"] < start["completed_ms"]
    assert report["model"] == "tiny"
    assert "first completion" in printed
