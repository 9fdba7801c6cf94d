"""The corpus as data: which packages, which versions, which bytes, under which licence.

The manifest is committed; the archives are not. `fetch` downloads them with each ecosystem's
ordinary client. An archive with another hash is not used.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mercury_model import children

CORPUS = Path(__file__).with_name("corpus.json")


@dataclass(frozen=True, slots=True)
class Package:
    """One archive. `client` is pip, npm or apt; `split` is train or held-out."""

    client: str
    name: str
    version: str
    file: str
    sha256: str
    licence: str
    split: str = "train"


def load(path: Path = CORPUS) -> tuple[Package, ...]:
    """The packages of a manifest, in its order."""
    return tuple(Package(**entry) for entry in json.loads(path.read_text("utf-8"))["packages"])


def save(packages: Sequence[Package], path: Path = CORPUS) -> None:
    """Write a manifest: sorted, so that equal corpora give equal bytes."""
    ordered = sorted(packages, key=lambda p: (p.split, p.client, p.name))
    body = {"packages": [asdict(p) for p in ordered]}
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", "utf-8")


def digest(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def command(package: Package) -> list[str]:
    """The command that downloads one package at its version into the current folder."""
    pinned = {"pip": "==", "npm": "@", "apt": "="}[package.client]
    name = f"{package.name}{pinned}{package.version}"
    if package.client == "pip":
        return ["pip", "download", "-qq", "--no-deps", "--dest", ".", name]
    if package.client == "npm":
        return ["npm", "pack", "--loglevel=error", name]
    return ["apt-get", "download", "-qq", name]


def fetch(
    packages: Sequence[Package],
    folder: Path,
    run: Callable[..., object] = subprocess.run,
) -> list[Package]:
    """Download the archives that `folder` lacks; returns the packages that are still missing.

    A package is missing if its client fails or its archive has another hash. Clients report errors
    on standard error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for package in packages:
        target = folder / package.file
        if not target.exists():
            run(
                command(package),
                cwd=folder,
                check=False,
                stdout=subprocess.DEVNULL,
                env=children.environment(),
            )
        if not target.exists() or digest(target) != package.sha256:
            missing.append(package)
    return missing
