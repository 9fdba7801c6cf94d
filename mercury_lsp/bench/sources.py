"""The frozen source files of the benchmarks, with their licences. Reads package data.

The packages in the manifest are excluded from all training data.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

from mercury_lsp.errors import SettingsError

Role = Literal["trace", "gaps"]


@dataclass(frozen=True, slots=True)
class Package:
    """The origin of a file. `archive` is the wheel it was taken from."""

    name: str
    version: str
    licence: str
    author: str
    licence_text: str
    archive: str
    archive_sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """One unmodified file. `name` is its path inside the package's wheel."""

    name: str
    role: Role
    package: Package
    sha256: str
    text: str


def data() -> Traversable:
    """The folder of the frozen files."""
    return files("mercury_lsp.bench") / "data"


@cache
def sources(role: Role) -> tuple[Source, ...]:
    """The files for traces or for gaps, in the manifest's order.

    Raises SettingsError if a file was changed, because its results would not be comparable.
    """
    manifest = json.loads((data() / "manifest.json").read_text(encoding="utf-8"))
    packages = {raw["name"]: Package(**raw) for raw in manifest["packages"]}
    found = []
    for raw in manifest["files"]:
        if raw["role"] != role:
            continue
        content = (data() / raw["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != raw["sha256"]:
            raise SettingsError(
                f"The frozen file {raw['file']} was changed.", "Reinstall mercury-lsp."
            )
        package = packages[raw["package"]]
        found.append(
            Source(
                name=raw["name"],
                role=role,
                package=package,
                sha256=raw["sha256"],
                text=content.decode(),
            )
        )
    return tuple(found)
