"""Ablations of the adaptation: their table in model/README.md, and that each changes one thing."""

import json
from dataclasses import replace

from ablate import FOUND, VARIANTS, table
from mercury_model.train.adapt import Plan
from mercury_model.train.collate import Blocks


def test_the_readme_has_the_table_of_the_committed_runs() -> None:
    readme = (FOUND.parents[1] / "README.md").read_text("utf-8")
    assert table(json.loads(FOUND.read_text("utf-8"))) in readme


def test_each_run_differs_from_the_usual_one_in_what_its_name_says() -> None:
    made = [(replace(Plan(), **v.plan), Blocks(**v.blocks)) for v in VARIANTS]
    assert made[0] == (Plan(), Blocks())
    assert len({*made}) == len(made) == len({v.name for v in VARIANTS})
