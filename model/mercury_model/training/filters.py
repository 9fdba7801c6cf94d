"""Which files and which text to train on: pure predicates over names and text."""

import hashlib
import re
from collections.abc import Callable

from mercury_model.training.benchmarks import is_benchmark

LANGUAGES = {
    "py": "python",
    "js": "javascript",
    "mjs": "javascript",
    "jsx": "javascriptreact",
    "ts": "typescript",
    "mts": "typescript",
    "tsx": "typescriptreact",
    "java": "java",
    "cc": "cpp",
    "cpp": "cpp",
    "hpp": "cpp",
    "h": "cpp",
    "php": "php",
    "sh": "shellscript",
    "bash": "shellscript",
    "bats": "shellscript",
    "go": "go",
    "rs": "rust",
}
"""File endings and the LSP language ids they stand for."""

VENDORED = re.compile(
    r"(^|/)(_?vendor(ed|s)?|third_?party|node_modules|extern(al)?s?|_?packages|bower_components|"
    r"dist|build|umd|bundles?|esm\d*|cjs|min|locales?|i18n|migrations|fixtures|_tzdata)(/|$)",
    re.I,
)
GENERATED = re.compile(
    r"do not (edit|modify)|auto-?generated|@generated|generated (by|from|with|automatically)|"
    r"machine generated|sourceMappingURL",
    re.I,
)
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|"
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9]{32,}|\bAIza[0-9A-Za-z_-]{35}\b|"
    r"eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}"
)
TEST = re.compile(r"(^|/)(tests?|testing|spec|__tests__)(/|$)|(^|[/_.])(test|spec)s?[_.]", re.I)
BENCHMARK = re.compile(r"human_?eval|\bmbpp\b|multipl-?e\b", re.I)


def language_of(name: str) -> str | None:
    """The LSP language id of a file by its ending, or None when it is not one of ours."""
    if name.endswith((".d.ts", ".min.js", ".pb.go", "_pb2.py", "_pb2_grpc.py")):
        return None
    return LANGUAGES.get(name.rsplit(".", 1)[-1].lower()) if "." in name else None


def is_vendored(name: str) -> bool:
    """Whether the path belongs to copied, built or data-only code."""
    return bool(VENDORED.search(name))


def is_test(name: str) -> bool:
    """Whether the path is a test. Tests repeat themselves, so the corpus has fewer of them."""
    return bool(TEST.search(name))


def unfit(text: str) -> str | None:
    """The reason not to train on a text, or None."""
    return next((reason for reason, found in _REASONS if found(text)), None)


def _long_lines(text: str) -> bool:
    lines = text.split("\n")
    return max(map(len, lines)) > 400 or len(text) / len(lines) > 80


def _mostly_data(text: str) -> bool:
    """Whether digits and quotes outweigh words, as in tables of numbers and strings."""
    return sum(c.isdigit() or c in "\"'" for c in text) > 0.22 * len(text)


_REASONS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("size", lambda text: not 300 <= len(text) <= 200_000),
    ("binary", lambda text: "\0" in text or "�" in text),
    ("minified", _long_lines),
    ("data", _mostly_data),
    ("generated", lambda text: GENERATED.search(text[:1500])),
    ("secret", SECRET.search),
    ("benchmark", lambda text: BENCHMARK.search(text) or is_benchmark(text)),
)

SHINGLE_WORDS = 8
SKETCH = 32


def words(text: str) -> list[str]:
    """Identifiers and numbers, in order; near duplicates share them in any layout."""
    return re.findall(r"\w+", text)


def sketch(text: str) -> tuple[int, ...]:
    """The SKETCH smallest hashes of the text's shingles of SHINGLE_WORDS words (bottom-k minhash).

    The share of common values estimates the Jaccard similarity of two texts (Broder 1997).
    """
    tokens = words(text)
    shingles = {
        " ".join(tokens[i : i + SHINGLE_WORDS])
        for i in range(max(1, len(tokens) - SHINGLE_WORDS + 1))
    }
    hashes = (hashlib.blake2b(s.encode(), digest_size=8).digest() for s in shingles)
    return tuple(sorted(int.from_bytes(h, "big") for h in hashes)[:SKETCH])


class Seen:
    """Remembers texts by their sketches, and recognises near duplicates of them."""

    def __init__(self, shared: float = 0.5) -> None:
        self._need = max(1, int(shared * SKETCH))
        self._owners: dict[int, list[int]] = {}
        self._count = 0

    def is_new(self, text: str) -> bool:
        """Whether no earlier text shares enough of the sketch; remembers a new text."""
        mine = sketch(text)
        shared: dict[int, int] = {}
        for value in mine:
            for owner in self._owners.get(value, ()):
                shared[owner] = shared.get(owner, 0) + 1
        if max(shared.values(), default=0) >= min(self._need, len(mine)):
            return False
        for value in mine:
            self._owners.setdefault(value, []).append(self._count)
        self._count += 1
        return True
