"""A folder with a card, a tokenizer and weights is accepted wherever the name of a model is."""

import sys
from pathlib import Path

import pytest
from lsp.wire import serving
from training_fakes import code

from mercury_lsp import MercuryCodeCompletion, MercuryCoder, MercuryInferenceEngine
from mercury_lsp.cli.doctor import State, examine
from mercury_lsp.cli.main import main
from mercury_lsp.config import Surroundings
from mercury_model.training import data
from mercury_model.training.data import Source
from mercury_model.training.start import HELD_OUT

PREFIX = "def add(a, b):\n    return "
SERVER = [sys.executable, "-I", "-m", "mercury_lsp", "--stdio"]


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No weights are cached, and the network is switched off."""
    monkeypatch.setenv("MERCURY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MERCURY_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "cache"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out + err


@pytest.mark.parametrize("form", [str, Path])
async def test_the_library_loads_a_folder_as_it_does_a_name(
    tiny_folder: Path, form: type[str] | type[Path]
) -> None:
    with MercuryCoder("tiny") as named, MercuryCoder(form(tiny_folder)) as coder:
        expected = await named.fill_in_middle(prefix=PREFIX, suffix="\n")
        assert expected
        assert await coder.fill_in_middle(prefix=PREFIX, suffix="\n") == expected
    with MercuryInferenceEngine(form(tiny_folder)) as engine:
        assert await engine.generate([(PREFIX, "\n")]) == [expected]
    with MercuryCodeCompletion(form(tiny_folder)) as completion:
        await completion.complete_code(PREFIX, len(PREFIX))


async def test_the_server_serves_a_folder(tiny_folder: Path) -> None:
    async with serving(SERVER) as wire:
        await wire.initialize(initializationOptions={"mercury": {"model": str(tiny_folder)}})
        await wire.hear("mercury/status", state="ready", model="tiny")
        assert (await wire.shut_down())[0] == 0


async def test_the_server_says_what_a_folder_lacks_and_offers_no_download(
    tiny_folder: Path,
) -> None:
    (tiny_folder / "tokenizer.json").unlink()
    async with serving(SERVER) as wire:
        await wire.initialize(initializationOptions={"mercury": {"model": str(tiny_folder)}})
        said = await wire.hear("window/showMessage")
        assert "neither a tokenizer.json nor a GGUF file" in said["params"]["message"]
        assert (await wire.shut_down())[0] == 0
    assert not [one for one in wire.heard if one["method"] == "window/showMessageRequest"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["models", "info"], "4 layers of 192"),
        (["models", "plan"], "tiny, 448 tokens"),
        (["models", "pull"], "nothing to fetch"),
        (["models", "remove"], "it stays"),
    ],
)
def test_the_commands_about_models_take_a_folder(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    code, said = call(capsys, *command, str(tiny_folder))
    assert code == 0
    assert words in said


def test_complete_takes_a_folder(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text(PREFIX)
    by_name = call(capsys, "complete", f"{tmp_path}/a.py:2", "--model", "tiny")
    by_folder = call(capsys, "complete", f"{tmp_path}/a.py:2", "--model", str(tiny_folder))
    assert by_folder == by_name


def test_eval_takes_a_folder(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [Source("python", "made-up", "MIT", f"{i}.py", code(i)) for i in range(4)]
    data.write(sources, tmp_path / HELD_OUT)
    options = ["--corpus", str(tmp_path), "--python", "2", "--setting", "verified"]
    exit_code, said = call(capsys, "eval", "--model", str(tiny_folder), *options)
    assert exit_code == 0
    assert "verified: exact" in said


def test_the_doctor_checks_the_weights_of_a_folder(tiny_folder: Path, tmp_path: Path) -> None:
    examination = examine(Surroundings(tmp_path / "cache", offline=True), str(tiny_folder))
    assert not examination.broken
    found = {finding.name: finding for finding in examination.findings}
    assert found[f"weights in {tiny_folder.resolve()}"].state is State.FINE
    assert found["completion"].state is State.FINE

    (tiny_folder / "any.safetensors").write_bytes(b"half of it")
    examination = examine(Surroundings(tmp_path / "cache", offline=True), str(tiny_folder))
    found = {finding.name: finding for finding in examination.findings}
    assert found["weights"].state is State.BROKEN
    assert "not a whole safetensors file" in found["weights"].detail
