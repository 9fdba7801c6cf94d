"""The table of what a step is made of: as it stands in model/README.md."""

import json

from profile_step import FOUND, table

README = FOUND.parents[1] / "README.md"


def test_the_readme_has_the_table_of_the_committed_results() -> None:
    assert table(json.loads(FOUND.read_text("utf-8"))) in README.read_text("utf-8")


def test_what_is_no_part_is_the_rest() -> None:
    step = {
        "rows": 4,
        "whole_ms": 12.0,
        "bare_ms": 11.0,
        "products_ms": 5.0,
        "attention_ms": 2.5,
    }
    assert table({"steps": [step]}).splitlines() == [
        "| rows | step | products | attention | adapters | the rest |",
        "|---|---|---|---|---|---|",
        "| 4 | 12.0 | 5.0 | 2.5 | 1.0 | 3.5 |",
    ]
