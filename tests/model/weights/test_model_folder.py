import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mercury_model.errors import WeightsCorrupted, WeightsMissing, WeightsUnsupported
from mercury_model.load import load
from mercury_model.weights import registry
from mercury_model.weights.registry import BUNDLED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny model in a folder of somebody's own."""
    made = tmp_path / "model"
    made.mkdir()
    shutil.copy(BUNDLED / "tiny.json", made / "card.json")
    shutil.copy(BUNDLED / "tiny-tokenizer.json", made / "tokenizer.json")
    shutil.copy(BUNDLED / "tiny.safetensors", made / "any.safetensors")
    return made


@pytest.mark.parametrize("form", [str, Path])
def test_a_folder_is_a_model_wherever_a_name_is(folder: Path, tmp_path: Path, form: type) -> None:
    loaded = load(form(folder), cache_dir=tmp_path, threads=1, runtime="torch")
    assert loaded.card == registry.card("tiny")
    named = registry.tokenizer("tiny", tmp_path)
    assert loaded.tokenizer.encode("def f(x):") == named.encode("def f(x):")


def test_a_folder_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"card\.json"):
        registry.find(str(tmp_path))


def test_an_id_outside_of_the_vocabulary_is_refused(folder: Path) -> None:
    card = registry.card("tiny")
    wrong = replace(card, infill=replace(card.infill, mask_id=99_999))
    (folder / "card.json").write_text(json.dumps(wrong.to_json()), "utf-8")
    with pytest.raises(WeightsCorrupted, match=r"99999.*2048"):
        registry.card(folder)


def test_a_folder_that_changed_is_another_model(folder: Path) -> None:
    before = registry.find(folder).key
    (folder / "more.txt").write_text("x")
    assert registry.find(folder).key != before


def test_what_is_neither_a_name_nor_a_folder_is_refused() -> None:
    with pytest.raises(WeightsUnsupported, match=r"no/such.*mini"):
        registry.find("no/such")
