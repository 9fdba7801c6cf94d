"""The ablations of the adaptation."""

from dataclasses import replace

from scripts import script

from mercury_model.training.adaptation import AdapterConfig
from mercury_model.training.collate import Blocks

VARIANTS = script("model/tools/ablate.py").VARIANTS


def test_each_run_differs_from_the_usual_one_in_what_its_name_says() -> None:
    made = [(replace(AdapterConfig(), **v.plan), Blocks(**v.blocks)) for v in VARIANTS]
    assert made[0] == (AdapterConfig(), Blocks())
    assert len({*made}) == len(made) == len({v.name for v in VARIANTS})
