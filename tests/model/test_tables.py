"""The tables that scripts print of their results, and model/README.md repeats."""

import json
from types import ModuleType

import pytest
from scripts import ROOT, script

README = ROOT / "model" / "README.md"

ablate = script("model/tools/ablate.py")
profile_step = script("model/tools/profile_step.py")
runtime_table = script("model/tools/runtime_table.py")


@pytest.mark.parametrize("tool", [ablate, profile_step, runtime_table])
def test_the_readme_has_the_table_of_the_committed_results(tool: ModuleType) -> None:
    table = tool.table(json.loads(tool.FOUND.read_text("utf-8")))
    assert table in README.read_text("utf-8")


def test_the_share_is_that_of_the_runtime_named_last() -> None:
    def timing(runtime: str, milliseconds: float) -> dict[str, object]:
        return {"runtime": runtime, "call": "denoise", "rows": 4, "median_ms": milliseconds}

    report = {
        "timings": [timing("slow", 50.0), timing("fast", 8.0)],
        "floors": [{"rows": 4, "floor_ms": 2.0}],
    }
    assert runtime_table.table(report).splitlines() == [
        "| rows | slow | fast | floor | its share of fast |",
        "|---|---|---|---|---|",
        "| 4 | 50.0 | 8.0 | 2.0 | 25 % |",
    ]


def test_what_is_no_part_is_the_rest() -> None:
    step = {
        "rows": 4,
        "whole_ms": 12.0,
        "bare_ms": 11.0,
        "products_ms": 5.0,
        "attention_ms": 2.5,
    }
    assert profile_step.table({"steps": [step]}).splitlines() == [
        "| rows | step | products | attention | adapters | the rest |",
        "|---|---|---|---|---|---|",
        "| 4 | 12.0 | 5.0 | 2.5 | 1.0 | 3.5 |",
    ]
