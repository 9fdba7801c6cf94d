import json
from dataclasses import replace
from pathlib import Path

import pytest

from mercury_model.errors import (
    ModelError,
    WeightsCorrupted,
    WeightsMissing,
    WeightsUnsupported,
)
from mercury_model.load import load
from mercury_model.weights import registry


@pytest.mark.parametrize("form", [str, Path])
def test_a_folder_is_a_model_wherever_a_name_is(
    tiny_folder: Path, tmp_path: Path, form: type
) -> None:
    loaded = load(form(tiny_folder), cache_dir=tmp_path, threads=1, runtime="torch")
    assert loaded.card == registry.card("tiny")
    named = registry.tokenizer("tiny", tmp_path)
    assert loaded.tokenizer.encode("def f(x):") == named.encode("def f(x):")


def test_a_folder_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"card\.json"):
        registry.find(str(tmp_path))


def test_an_id_outside_of_the_vocabulary_is_refused(tiny_folder: Path) -> None:
    card = registry.card("tiny")
    wrong = replace(card, infill=replace(card.infill, mask_id=99_999))
    (tiny_folder / "card.json").write_text(json.dumps(wrong.to_json()), "utf-8")
    with pytest.raises(WeightsCorrupted, match=r"99999.*2048"):
        registry.card(tiny_folder)


def test_a_folder_that_changed_is_another_model(tiny_folder: Path) -> None:
    before = registry.find(tiny_folder).key
    (tiny_folder / "more.txt").write_text("x")
    assert registry.find(tiny_folder).key != before


def test_what_is_neither_a_name_nor_a_folder_is_refused() -> None:
    with pytest.raises(WeightsUnsupported, match=r"no/such.*mini"):
        registry.find("no/such")


@pytest.mark.parametrize(
    ("file", "text", "error", "words"),
    [
        ("card.json", None, WeightsMissing, r"no card\.json.*holds card\.json"),
        ("card.json", "{", WeightsCorrupted, r"not a model card"),
        ("card.json", "[]", WeightsCorrupted, r"not a model card"),
        ("tokenizer.json", None, WeightsMissing, r"neither a tokenizer\.json nor a GGUF"),
        ("tokenizer.json", "{", WeightsCorrupted, r"tokenizer\.json is not a tokenizer"),
        ("any.safetensors", None, WeightsMissing, r"no weights.*GGUF or safetensors"),
        ("any.safetensors", "x", WeightsCorrupted, r"not a whole safetensors file"),
        ("config.json", "{", WeightsCorrupted, r"not the configuration of a network"),
        ("config.json", '{"model_type": "gpt2"}', WeightsUnsupported, r"Known types: llama"),
    ],
)
def test_a_folder_with_a_bad_file_says_how_to_repair_it(
    tiny_folder: Path,
    tmp_path: Path,
    file: str,
    text: str | None,
    error: type[ModelError],
    words: str,
) -> None:
    (tiny_folder / file).unlink(missing_ok=True)
    if text is not None:
        (tiny_folder / file).write_text(text)
    with pytest.raises(error, match=words):
        load(tiny_folder, cache_dir=tmp_path, threads=1)


def change_card(folder: Path, **changes: object) -> None:
    """Change top-level fields of the card, or those of its architecture."""
    raw = json.loads((folder / "card.json").read_text("utf-8"))
    for name, value in changes.items():
        (raw if name in raw else raw["architecture"])[name] = value
    (folder / "card.json").write_text(json.dumps(raw), "utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 5}, r"layers\.4\.\w+ is missing"),
        ({"hidden_size": 160}, r"has the shape \[2048, 192\], and \[2048, 160\] is expected"),
    ],
)
def test_weights_that_do_not_fit_the_card_are_refused(
    tiny_folder: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    change_card(tiny_folder, **change)
    with pytest.raises(WeightsUnsupported, match=words):
        load(tiny_folder, cache_dir=tmp_path, threads=1)


@pytest.mark.parametrize("name", ["../../evil", "a/b", "..", ""])
def test_a_name_that_is_a_path_is_refused_since_cached_files_are_named_after_it(
    tiny_folder: Path, name: str
) -> None:
    change_card(tiny_folder, name=name)
    with pytest.raises(WeightsCorrupted, match="Use letters"):
        registry.find(tiny_folder)


def test_the_home_folder_may_be_written_as_a_tilde(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny_folder.parent))
    assert registry.find(f"~/{tiny_folder.name}").folder == tiny_folder.resolve()
