from pathlib import Path

import pytest
from training_fakes import feed, trainer
from typer.testing import CliRunner

from mercury_lsp.cli.main import app
from mercury_lsp.cli.train import train
from mercury_lsp.errors import SettingsError
from mercury_model.training.adaptation import AdapterConfig


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(train, list(arguments))
    assert isinstance(result.exception, SettingsError)
    return str(result.exception)


def test_data_are_not_fetched_when_the_network_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MERCURY_OFFLINE", "1")
    assert "network" in refused("data", "--archives", str(tmp_path))


def test_training_without_a_corpus_says_how_to_get_one(tmp_path: Path) -> None:
    assert "mercury-lsp train data" in refused("adapt", "--corpus", str(tmp_path))


def test_a_run_is_not_exported_without_its_corpus(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").touch()
    arguments = ("export", str(tmp_path), str(tmp_path / "d.safetensors"), "--corpus")
    assert "mercury-lsp train data" in refused(*arguments, str(tmp_path))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refused("curves", str(tmp_path), str(tmp_path / "c.png"))
    assert str(tmp_path) in refused("export", str(tmp_path), str(tmp_path / "d.safetensors"))


def test_curves_of_a_run_are_drawn(tmp_path: Path) -> None:
    from mercury_model.training.loop import LoopSchedule, train_loop

    plan = AdapterConfig(steps=2, examples=1, plain_rank=2, gated_rank=2, first_layer=2)
    held_out = feed("held").batch(0, 1)
    list(
        train_loop(
            trainer(plan),
            lambda: held_out,
            tmp_path,
            LoopSchedule(probe_steps=1),
            lambda: 0.0,
            lambda: False,
        )
    )
    result = CliRunner().invoke(train, ["curves", str(tmp_path), str(tmp_path / "c.png")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "c.png").stat().st_size > 1_000


def test_evaluation_without_held_out_code_says_how_to_get_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "--corpus", str(tmp_path)])
    assert isinstance(result.exception, SettingsError)
    assert "mercury-lsp train data" in str(result.exception)
