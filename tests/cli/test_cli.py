"""The command line: what it prints, its exit codes, and that errors are one message."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import LetterTokenizer, ScriptedRuntime, card, spell

from mercury_lsp import __version__
from mercury_lsp.cli.bench import planned
from mercury_lsp.cli.complete import find
from mercury_lsp.cli.main import address, main
from mercury_lsp.errors import SettingsError
from mercury_model.load import LoadedModel
from mercury_model.weights import registry


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test finds weights, and none may use the network."""
    monkeypatch.setenv("MERCURY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MERCURY_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path / "cache"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out, err


def test_without_arguments_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys)
    assert code == 0
    for command in ("complete", "doctor", "models", "bench", "--stdio"):
        assert command in out


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"mercury-lsp {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--socket=1234"], "--socket"),
        (["--node-ipc"], "--node-ipc"),
        (["--stdio", "--tcp", "localhost:1"], "cannot be combined"),
        (["--stdio", "models", "list"], "cannot be combined"),
        (["--tcp", "localhost"], "HOST:PORT"),
        (["--log-file", "/absent/folder/log", "--stdio"], "cannot be opened"),
        (["models", "info", "maxi"], "no model called 'maxi'"),
        (["models", "pull", "mini"], "switched off"),
        (["models", "nonsense"], "nonsense"),
        (["models", "plan", "maxi"], "Known shapes: qwen2.5-0.5b"),
        (["models", "plan", "--memory", "plenty"], "8GB"),
        (["models", "plan", "--memory", "100MB"], "100 MB are free"),
        (["models", "plan", "llama-8b", "--train"], "cannot be adapted"),
        (["complete", "nowhere"], "FILE:LINE"),
        (["complete", "/absent.py:1"], "cannot be read"),
        (["complete", "mercury_lsp/cli/main.py:1", "--mode", "magic"], "must be one of diffusion"),
        (["bench"], "models pull mini"),
        (["bench", "--model", "auto"], "models pull mini"),
        (["bench", "--model", "maxi"], "no model called 'maxi'"),
        (["bench", "--set", "deadlineMs"], "KEY=VALUE"),
        (["bench", "--set", "deadlineMs=soon"], "must be a number"),
        (["bench", "--set", "nonsense=1"], "Unknown setting"),
        (["bench", "--compare", "magic"], "no mode magic"),
        (["bench", "--gaps", "--plot", "p.png"], "Only a trace has a plot"),
        (["bench", "--gaps", "--starts", "3"], "cannot be combined"),
        (["bench", "--speed", "0"], "speed"),
    ],
)
def test_what_is_wrong_is_one_message_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_a_bench_learns_early_that_it_cannot_write(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "is_available", lambda name, folder: True)
    code, _, err = call(capsys, "bench", "--json", "/absent/folder/report.json")
    assert (code, "no folder" in err) == (2, True)


def test_models_are_listed_with_what_to_do_about_those_that_are_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = call(capsys, "models", "list")
    assert code == 0
    for entry in registry.MODELS.values():
        assert entry.name in out
        assert entry.alias in out
    assert "mercury-lsp models pull mini" in out


def test_a_model_is_described_by_name_and_by_alias(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = call(capsys, "models", "info", "mini")
    assert by_name == call(capsys, "models", "info", "mercury-coder-mini")
    entry = registry.find("mini")
    assert entry.base is not None
    assert entry.base.sha256 in by_name[1]
    assert entry.base.hub.repository in by_name[1]
    assert entry.base.parts[0].requirement in by_name[1]
    assert f"{registry.card('mini').infill.prefix_tokens} tokens before" in by_name[1]


def test_a_plan_shows_every_precision_and_the_one_it_chose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = call(capsys, "models", "plan", "--memory", "700MB", "--batch", "16")
    assert code == 0
    for words in ("int8, kv fp32", "bf16, kv bf16", "fp32, kv fp32", "✓", "700 MB free", "430 MB"):
        assert words in out


def test_a_training_plan_names_the_command_that_follows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    some = ("--memory", "800MB", "--batch", "4", "--tokens", "378")
    out = call(capsys, "models", "plan", "--train", *some)[1]
    assert "train adapt --model mini --examples 4" in out
    assert "--recompute" in out


def test_a_plan_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    out = call(capsys, "models", "plan", "tiny", "--memory", "1GiB", "--tokens", "300", "--json")[1]
    plan = json.loads(out)
    assert (plan["model"], plan["weights"], plan["tokens"]) == ("tiny", "int8", 300)
    assert plan["free_bytes"] == 2**30
    assert plan["peak_bytes"] == sum(plan["parts_bytes"].values())


def test_removing_what_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "models", "remove", "mini") == (0, "There was nothing to remove.\n", "")


def test_removing_tells_what_was_freed(
    capsys: pytest.CaptureFixture[str], empty_cache: Path
) -> None:
    entry = registry.find("mini")
    assert entry.base is not None
    empty_cache.mkdir()
    (empty_cache / entry.base.file).write_bytes(b"x" * 3_000_000)
    assert call(capsys, "models", "remove", "mini")[1] == "3 MB freed.\n"
    assert not list(empty_cache.iterdir())


def test_the_doctor_names_missing_weights_and_exits_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = call(capsys, "doctor")
    assert code == 1
    assert "not on this machine" in out
    assert "→ Run: mercury-lsp models pull mini" in out
    assert "python" in out


def test_the_doctor_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor", "--json")
    report = json.loads(out)
    assert (code, report["broken"]) == (1, True)
    broken = {f["name"] for f in report["findings"] if f["state"] == "broken"}
    assert "weights of mini" in broken
    assert all(f["remedy"] for f in report["findings"] if f["state"] != "fine")


def scripted(text: str) -> LoadedModel:
    return LoadedModel(card(), LetterTokenizer(), ScriptedRuntime(spell(text)))  # type: ignore[arg-type]


@pytest.fixture
def abc_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **more: Any) -> LoadedModel:
        return scripted("a(b)")

    monkeypatch.setattr("mercury_model.load.load", load)


@pytest.mark.usefixtures("abc_model")
def test_piped_a_completion_is_nothing_but_its_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "f.py"
    file.write_text("c = \n")
    assert call(capsys, "complete", f"{file}:1") == (0, "a(b)\n", "")


@pytest.mark.usefixtures("abc_model")
def test_unsaved_text_comes_through_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x = 1\nc = \n"))
    assert call(capsys, "complete", "new.py:2:5", "--stdin") == (0, "a(b)\n", "")


@pytest.mark.usefixtures("abc_model")
def test_nothing_to_suggest_is_said_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "f.py"
    file.write_text("a(b)\n")
    code, out, err = call(capsys, "complete", f"{file}:1:3")
    assert (code, out) == (1, "")
    assert "Nothing" in err


@pytest.mark.usefixtures("abc_model")
def test_a_language_the_model_was_not_taught_is_pointed_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "f.go"
    file.write_text("c = \n")
    assert "was trained on python, not go" in call(capsys, "complete", f"{file}:1")[2]


@pytest.mark.parametrize(
    ("where", "offset"),
    [(":1", 2), (":1:1", 0), (":1:3", 2), (":2", 6), (":2:2", 5), (":3", 8), (":3:1", 7)],
)
def test_a_place_counts_lines_and_columns_from_1(where: str, offset: int, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_bytes(b"ab\r\n\xc3\xa9f\nh")
    assert find(f"{file}{where}", None).offset == offset


@pytest.mark.parametrize("where", [":0", ":4", ":1:0", ":1:4", ":2:9", "", ":x", ":1:2:3"])
def test_a_place_that_is_not_there_is_refused(where: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_bytes(b"ab\r\n\xc3\xa9f\nh")
    with pytest.raises(SettingsError):
        find(f"{file}{where}", None)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        find(f"{file}:1", None)


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [("f.py", None, "python"), ("f.TS", None, "typescript"), ("f.txt", "go", "go")],
)
def test_the_language_comes_from_the_name_or_the_option(
    name: str, language: str | None, expected: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("")
    assert find(f"{tmp_path / name}:1", language).language == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:80", ("localhost", 80)),
        ("[::1]:9", ("::1", 9)),
        (":7", ("127.0.0.1", 7)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["localhost", "localhost:", "localhost:x", "a:0", "a:65536", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        address(text)


def test_a_bench_measures_the_mode_that_is_set_and_each_other_once() -> None:
    plan = planned("mini", ["ar", "autoregressive", "verified"], ["deadlineMs=200"], {})
    assert plan.modes == ("verified", "autoregressive")
    assert plan.settings == {"model": "mini", "deadlineMs": 200}
    assert plan.config.deadline_ms == 200
    assert planned("mini", ["ar"], ["mode=verified"], {}).modes == ("verified", "autoregressive")
    assert (
        planned("mini", [], ["alternatives=2"], {"alternatives": 1}).settings["alternatives"] == 2
    )


def test_serving_stdio_imports_neither_rich_nor_matplotlib() -> None:
    check = (
        "import sys, logging\n"
        "from mercury_lsp import lsp\n"
        "def stand_in(**options):\n"
        "    print(options, [m for m in ('rich', 'matplotlib', 'torch') if m in sys.modules])\n"
        "    return 5\n"
        "lsp.serve_stdio = stand_in\n"
        "from mercury_lsp.cli.main import main\n"
        "main(['--clientProcessId=7', '--log-level', 'debug', '--stdio'])\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert done.stdout.strip() == "{'client_process_id': 7} []"


def test_a_module_in_the_workspace_is_not_taken_for_a_library(tmp_path: Path) -> None:
    for name in ("typer", "numpy", "logging", "mercury_model"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file')")
    done = subprocess.run(
        [sys.executable, "-m", "mercury_lsp", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"mercury-lsp {__version__}\n"), done.stderr
