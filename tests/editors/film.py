"""Films the README's picture of VS Code: `python tests/editors/film.py`, with mini here.

`editors/vscode/test/film.mjs` plays a person and keeps what the screen shows after each key; here
it becomes one animated PNG, which shows its first picture where pictures stand still. How long each
is shown is made up, and no measurement.
"""

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from editors import vscode
from mercury_lsp.config import surroundings

PICTURE = vscode.EXTENSION / "screenshot.png"
COLOURS = 128


def main() -> None:
    """See the module's docstring."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **vscode.surroundings(folder),
            "MERCURY_CACHE": str(surroundings().cache_dir),
        }
        vscode.run(["node", "test/film.mjs", str(folder)], environment)
        shown = json.loads((folder / "film.json").read_text("utf-8"))
        frames = [Image.open(folder / frame["file"]).convert("RGB") for frame in shown]
        palette = frames[-1].quantize(COLOURS)
        first, *others = [
            frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
        ]
        first.save(
            PICTURE,
            save_all=True,
            append_images=others,
            duration=[frame["ms"] for frame in shown],
            loop=0,
            optimize=True,
        )


if __name__ == "__main__":
    main()
