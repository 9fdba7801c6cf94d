"""What the editors' files say about settings is what `config.py` says."""

import importlib.util
import json
from pathlib import Path

from mercury_lsp.cli.schema import settings

EDITORS = Path(__file__).parents[1] / "editors"


def test_generated_files_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("generate", EDITORS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [
        path.name for path, text in generate.files().items() if path.read_text("utf-8") != text
    ]
    assert stale == [], "run: python editors/generate.py"


def test_vs_code_knows_every_setting_with_its_default_and_bounds() -> None:
    manifest = json.loads((EDITORS / "vscode" / "package.json").read_text("utf-8"))
    properties = manifest["contributes"]["configuration"]["properties"]
    assert properties["mercury.deadlineMs"] == {
        "description": "Time limit of an automatic request, in milliseconds.",
        "default": 150,
        "type": "integer",
        "minimum": 1,
        "maximum": 60000,
    }
    assert properties["mercury.mode"]["enum"] == ["diffusion", "autoregressive", "verified"]
    assert "mercury.server.path" in properties


def test_vs_code_takes_no_program_from_a_folder_that_is_not_trusted() -> None:
    manifest = json.loads((EDITORS / "vscode" / "package.json").read_text("utf-8"))
    own = manifest["contributes"]["configuration"]["properties"].keys() - {
        f"mercury.{name}" for name in settings()
    }
    untrusted = manifest["capabilities"]["untrustedWorkspaces"]
    assert own == {"mercury.server.path"}, "what is new here may be dangerous, too"
    assert untrusted["restrictedConfigurations"] == ["mercury.server.path"]
    assert manifest["extensionKind"] == ["workspace"], "the server is where the files are"
