"""What the doctor finds wrong, and that it always says what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mercury_lsp.cli import doctor
from mercury_lsp.cli.doctor import Examination, Finding, State, examine
from mercury_lsp.config import Surroundings
from mercury_model.errors import RuntimeUnavailable
from mercury_model.weights import registry


def examined(folder: Path, model: str = "mini") -> dict[str, Finding]:
    examination = examine(Surroundings(cache_dir=folder, offline=True), model)
    for finding in examination.findings:
        assert finding.detail
        assert finding.remedy or finding.state is State.FINE
    return {finding.name: finding for finding in examination.findings}


def test_missing_weights_are_broken_for_the_model_in_use(tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert found["weights of mini"].state is State.BROKEN
    assert "models pull mini" in found["weights of mini"].remedy
    assert found["completion"].state is State.BROKEN


def test_damaged_weights_are_found_by_their_hash(tmp_path: Path) -> None:
    base = registry.find("mini").base
    assert base is not None
    (tmp_path / base.file).write_bytes(b"half of it")
    found = examined(tmp_path)
    assert found["weights of mini"].state is State.BROKEN
    assert "damaged" in found["weights of mini"].detail


def test_an_unknown_model_is_broken_and_the_known_ones_are_named(tmp_path: Path) -> None:
    assert "mini" in examined(tmp_path, "maxi")["weights"].remedy


def test_a_cache_folder_that_is_a_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    finding = examined(tmp_path / "cache")["cache folder"]
    assert finding.state is State.BROKEN
    assert "MERCURY_CACHE" in finding.remedy


def test_a_cache_folder_that_is_not_made_yet_is_fine(tmp_path: Path) -> None:
    assert examined(tmp_path / "a" / "b")["cache folder"].state is State.FINE


def test_the_network_is_said_to_be_for_weights_alone_and_telemetry_to_be_off() -> None:
    online = Surroundings(cache_dir=Path("/absent"), offline=False)
    (finding,) = doctor._network(online)
    assert finding.state is State.FINE
    assert "models pull" in finding.detail
    assert "Download" in finding.detail
    assert "telemetry is off: onnxruntime, huggingface_hub" in finding.detail


def test_a_python_path_that_names_the_workspace_is_warned_of_with_the_safe_command() -> None:
    (finding,) = doctor._python(Surroundings(Path(), offline=True, imports_folder=True))
    assert finding.state is State.WARNING
    assert "-I -m mercury_lsp --stdio" in finding.remedy


def test_looking_changes_nothing(tmp_path: Path) -> None:
    examined(tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_every_grammar_of_the_distribution_works(tmp_path: Path) -> None:
    finding = examined(tmp_path)["grammars"]
    assert finding.state is State.FINE
    assert "rust" in finding.detail


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeUnavailable("No chip.", "Buy one."), "Buy one."),
        (ImportError("no such library"), "Reinstall"),
        (ValueError("anything at all"), "report it"),
    ],
)
def test_whatever_stops_a_look_is_a_finding(error: Exception, remedy: str) -> None:
    def look() -> Iterator[Finding]:
        raise error
        yield

    (finding,) = doctor._safely("it", look)
    assert (finding.name, finding.state) == ("it", State.BROKEN)
    assert remedy in finding.remedy


def test_a_warning_leaves_the_server_working() -> None:
    warned = Finding("memory", State.WARNING, "little", "buy more")
    assert not Examination((warned,)).broken
    assert Examination((warned, Finding("python", State.BROKEN, "old", "new"))).broken


@pytest.mark.parametrize(
    ("runtime", "flags", "words"),
    [
        ("onnx cpu int8, 2 threads", ["avx2", "avx512_vnni"], "exactly (avx512_vnni)"),
        ("onnx cpu int8-unsigned, 2 threads", ["avx2"], "saturate"),
        ("torch cpu float32, 2 threads", ["avx2", "avx512_vnni"], ""),
    ],
)
def test_the_choice_of_the_runtime_is_explained(runtime: str, flags: list[str], words: str) -> None:
    why = doctor._why(runtime, flags)
    assert words in why
    assert bool(why) == bool(words)


def test_the_bundled_model_is_well_and_writes(tmp_path: Path) -> None:
    found = examined(tmp_path, "tiny")
    assert found["completion"].state is State.FINE
    assert found["runtime"].state is State.FINE
