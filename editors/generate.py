"""Write the version and the settings of the server into the files of the editors.

`python editors/generate.py` writes them; `--check` writes nothing and exits with 1 if one is stale.
"""

import json
import sys
from pathlib import Path

from mercury_lsp import __version__
from mercury_lsp.cli.schema import schema, settings
from mercury_lsp.config import SECTION

HERE = Path(__file__).parent
SCHEMA = HERE / "settings.schema.json"
MANIFEST = HERE / "vscode" / "package.json"
HELP = HERE / "neovim" / "doc" / "mercury.txt"

BEGIN, END = "SETTINGS OF THE SERVER", "=" * 78


def manifest() -> str:
    """The package.json of VS Code with the current version and settings of the server."""
    found = json.loads(MANIFEST.read_text("utf-8"))
    found["version"] = __version__
    section = found["contributes"]["configuration"]
    own = {
        name: value
        for name, value in section["properties"].items()
        if name.startswith(f"{SECTION}.server.")
    }
    made = {f"{SECTION}.{name}": value for name, value in settings().items()}
    section["properties"] = own | made
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def neovim_help() -> str:
    """The help of Neovim with the current list of settings."""
    text = HELP.read_text("utf-8")
    start = text.index("\n", text.index(BEGIN)) + 1
    end = text.index(END, start)
    entries = []
    for name, value in settings().items():
        shown = json.dumps(value["default"]).replace("[]", "{}")
        entries.append(f"{name} = {shown}\n    {value['description']}\n")
    return text[:start] + "\n" + "".join(entries) + "\n" + text[end:]


def files() -> dict[Path, str]:
    """Every generated file and its content."""
    whole = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    return {SCHEMA: whole, MANIFEST: manifest(), HELP: neovim_help()}


def main() -> int:
    """Write the files, or report the stale ones with --check."""
    made = files()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.name} is stale: run python editors/generate.py\n")
        return bool(stale)
    for path in stale:
        path.write_text(made[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
