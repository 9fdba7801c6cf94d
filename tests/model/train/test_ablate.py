"""Ablations of the adaptation: that each changes what it says."""

from dataclasses import replace

from ablate import VARIANTS
from mercury_model.train.adapt import Plan
from mercury_model.train.collate import Blocks


def test_each_run_differs_from_the_usual_one_in_what_its_name_says() -> None:
    made = [(replace(Plan(), **v.plan), Blocks(**v.blocks)) for v in VARIANTS]
    assert made[0] == (Plan(), Blocks())
    assert len({*made}) == len(made) == len({v.name for v in VARIANTS})
