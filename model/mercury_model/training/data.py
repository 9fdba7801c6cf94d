"""The corpus: archives in, deduplicated source files out. Deterministic, given the manifest."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mercury_model.training import archives, filters
from mercury_model.training.manifest import Package

BYTES_PER_PACKAGE = 2_500_000
"""No single package may colour the corpus."""
KEEP_TESTS = 0.25


@dataclass(frozen=True, slots=True)
class Source:
    """One source file. `language` is the LSP language id."""

    language: str
    package: str
    licence: str
    path: str
    text: str


def build(
    packages: Sequence[Package], folder: Path, split: str, dropped: Counter[str]
) -> Iterator[Source]:
    """The files of one split, exact and near duplicates out; `dropped` counts the reasons.

    Held-out packages are read first whatever the split, so that nothing similar to them is
    trained on.
    """
    seen = filters.Seen()
    for package in sorted(packages, key=lambda p: (p.split != "held-out", p.client, p.name)):
        for source in sources(package, folder, seen, dropped):
            if package.split == split:
                yield source


def sources(
    package: Package, folder: Path, seen: filters.Seen, dropped: Counter[str]
) -> Iterator[Source]:
    """Fit and new files of one archive, in an order of its own, up to BYTES_PER_PACKAGE."""
    entries = [
        (name, data)
        for name, data in archives.files(folder / package.file)
        if filters.language_of(name)
    ]
    draw = random.Random(package.sha256)
    entries.sort(key=lambda entry: hashlib.sha256(entry[0].encode()).digest())
    taken = 0
    for name, data in entries:
        text = data.decode("utf-8", "replace").replace("\r\n", "\n")
        reason = _refused(name, text, draw, seen)
        if reason:
            dropped[reason] += 1
            continue
        language = filters.language_of(name) or ""
        yield Source(language, package.name, package.licence, name, text)
        taken += len(text)
        if taken > BYTES_PER_PACKAGE:
            break


def _refused(name: str, text: str, draw: random.Random, seen: filters.Seen) -> str | None:
    if filters.is_vendored(name):
        return "vendored"
    if filters.is_test(name) and draw.random() > KEEP_TESTS:
        return "test"
    return filters.unfit(text) or (None if seen.is_new(text) else "duplicate")


def write(found: Iterable[Source], path: Path) -> Counter[str]:
    """Keep sources as JSON lines; returns the characters of each language."""
    size: Counter[str] = Counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as handle:
        for source in found:
            handle.write(json.dumps(asdict(source), ensure_ascii=False) + "\n")
            size[source.language] += len(source.text)
    return size


def read(path: Path) -> list[Source]:
    """The sources that `write` kept."""
    with path.open(encoding="utf-8") as handle:
        return [Source(**json.loads(line)) for line in handle]
