"""The table of what a step takes: as it stands in model/README.md."""

import json

from runtime_table import FOUND, table

README = FOUND.parents[1] / "README.md"


def test_the_readme_has_the_table_of_the_committed_results() -> None:
    assert table(json.loads(FOUND.read_text("utf-8"))) in README.read_text("utf-8")


def test_the_share_is_that_of_the_runtime_named_last() -> None:
    def timing(runtime: str, milliseconds: float) -> dict[str, object]:
        return {"runtime": runtime, "call": "denoise", "rows": 4, "median_ms": milliseconds}

    report = {
        "timings": [timing("slow", 50.0), timing("fast", 8.0)],
        "floors": [{"rows": 4, "floor_ms": 2.0}],
    }
    assert table(report).splitlines() == [
        "| rows | slow | fast | floor | its share of fast |",
        "|---|---|---|---|---|",
        "| 4 | 50.0 | 8.0 | 2.0 | 25 % |",
    ]
