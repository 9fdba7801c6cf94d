"""What tiny learns from: the Python sources of our own dependencies, as they are installed here.

Nothing is downloaded. Only licences that let anyone reuse the code are accepted, and which release
of what under which licence it was goes into the card of the weights.
"""

import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mercury_model.training import filters

PACKAGES = (
    "anyio",
    "attrs",
    "cattrs",
    "click",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "jinja2",
    "markdown-it-py",
    "mpmath",
    "networkx",
    "numpy",
    "packaging",
    "platformdirs",
    "psutil",
    "pygls",
    "pygments",
    "rich",
    "setuptools",
    "sympy",
    "torch",
    "typer",
)
"""Distributions that come with an installation of this project."""

PERMISSIVE = re.compile(r"\b(MIT|0BSD|BSD|Apache|PSF|ISC|Zlib|CC0|BSL-1\.0|Unlicense)\b", re.I)
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EUPL|CDDL|GNU|Mozilla)\b", re.I)
SOURCE_BYTES = 1_500_000
"""No package may colour the whole."""


@dataclass(frozen=True, slots=True)
class Package:
    """One release of a distribution, and what may be learnt from it."""

    name: str
    version: str
    licence: str
    texts: tuple[str, ...]


def installed(names: Sequence[str] = PACKAGES) -> Iterator[Package]:
    """Python's standard library and the named distributions; near duplicates are left out.

    Raises as `distribution` does.
    """
    seen = filters.Seen()
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    version = ".".join(map(str, sys.version_info[:3]))
    yield Package("python", version, "PSF-2.0", _texts(library, files, 5 * SOURCE_BYTES, seen))
    for name in names:
        yield distribution(name, seen)


def distribution(name: str, seen: filters.Seen) -> Package:
    """One installed distribution.

    Raises ValueError for a licence that is not permissive, PackageNotFoundError for a distribution
    that is not installed.
    """
    found = metadata.distribution(name)
    licence = _licence(name, found)
    root = Path(str(found.locate_file("")))
    files = [root / path for path in found.files or () if path.suffix == ".py"]
    return Package(name, found.version, licence, _texts(root, files, SOURCE_BYTES, seen))


def _licence(name: str, found: metadata.Distribution) -> str:
    headers = found.metadata
    classifiers = [c for c in headers.get_all("Classifier", []) if c.startswith("License ::")]
    licence = headers["License-Expression"] or "; ".join(
        [*(c.rsplit(" :: ", 1)[-1] for c in classifiers), (headers["License"] or "")[:40]]
    )
    if COPYLEFT.search(licence) or not PERMISSIVE.search(licence):
        raise ValueError(f"the licence of {name} is not known to be permissive: {licence}")
    return licence.strip("; ")


def _texts(root: Path, files: Sequence[Path], limit: int, seen: filters.Seen) -> tuple[str, ...]:
    """Fit and new files, in an order that depends on their names alone, up to `limit` bytes."""
    names = {path.relative_to(root).as_posix(): path for path in files if root in path.parents}
    taken: list[str] = []
    size = 0
    for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if size >= limit or filters.is_vendored(name) or filters.is_test(name):
            continue
        try:
            text = names[name].read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if not filters.unfit(text) and seen.is_new(text):
            taken.append(text)
            size += len(text)
    return tuple(taken)
