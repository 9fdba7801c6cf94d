"""A folder somebody opens: its Python files tell when they run, and do nothing worse."""

from dataclasses import dataclass
from pathlib import Path

PATHS = (".", ":/x", "/x:", "{folder}")
"""Values of PYTHONPATH that name the folder one stands in. `export PYTHONPATH=$PYTHONPATH:/x` gives
the second one to whoever had none."""

NAMES = ("sitecustomize", "usercustomize", "queue", "typer", "numpy", "pip", "mercury_lsp")


@dataclass(frozen=True, slots=True)
class Hostile:
    """`path` is the folder; beside it is noted what ran."""

    path: Path

    @classmethod
    def make(cls, parent: Path) -> "Hostile":
        """A new one."""
        folder = cls(parent / "workspace")
        folder.path.mkdir()
        for name in NAMES:
            note = f"open({str(folder._notes)!r}, 'a').write({name!r} + '\\n')\n"
            (folder.path / f"{name}.py").write_text(note, encoding="utf-8")
        return folder

    def python_path(self, value: str) -> str:
        """One of PATHS, for this folder."""
        return value.format(folder=self.path)

    def ran(self) -> set[str]:
        """The files that ran so far, by name."""
        return set(self._notes.read_text("utf-8").split()) if self._notes.exists() else set()

    @property
    def _notes(self) -> Path:
        return self.path.parent / "ran"
