"""Where the golden drafts are kept, how, and how what is found is compared with them.

A record is gzipped JSON: on what it was made, and the runs by name. Each draft of a list is stored
as what it adds to the one before. Numbers have nine significant digits, which tell every
single-precision number from the next.
"""

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
SHARED = ("ids", "confidences", "text", "settled")
"""Parts of a draft that mostly begin as those of the draft before."""

Record = dict[str, Any]


def read(name: str, folder: Path = DATA) -> Record:
    """The record called `name`."""
    record: Record = json.loads(gzip.decompress(_path(name, folder).read_bytes()))
    return record | {"runs": {run: _unpacked(found) for run, found in record["runs"].items()}}


def write(name: str, made_on: dict[str, str], runs: dict[str, Any], folder: Path = DATA) -> int:
    """Keep a record; how many bytes it takes. The same runs give the same bytes."""
    packed = {run: _packed(found) for run, found in runs.items()}
    text = json.dumps({"made_on": made_on, "runs": packed}, separators=(",", ":"))
    return _path(name, folder).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def difference(found: Any, golden: Any, tolerance: float, where: str = "") -> str | None:
    """Where what is found first differs from what was recorded, and how.

    Numbers with a fraction may differ by `tolerance`, all else by nothing.
    """
    if isinstance(found, float) and isinstance(golden, float | int):
        same = math.isclose(_rounded(found), golden, rel_tol=0, abs_tol=tolerance)
        return None if same else f"{where}: {found!r}, recorded {golden!r}"
    if isinstance(found, dict) and isinstance(golden, dict):
        pairs: Iterable[tuple[Any, Any, Any]] = (
            (key, found.get(key), golden.get(key)) for key in {**golden, **found}
        )
    elif isinstance(found, list) and isinstance(golden, list):
        pairs = ((n, *pair) for n, pair in enumerate(zip(found, golden, strict=False)))
    else:
        same = type(found) is type(golden) and found == golden
        return None if same else f"{where}: {found!r}, recorded {golden!r}"
    for key, one, other in pairs:
        if text := difference(one, other, tolerance, f"{where}.{key}" if where else f"{key}"):
            return text
    if len(found) != len(golden):
        return f"{where}: {len(found)} of them, recorded {len(golden)}"
    return None


def _path(name: str, folder: Path) -> Path:
    return folder / f"{name}.json.gz"


def _packed(value: Any) -> Any:
    if isinstance(value, dict):
        packed = {key: _packed(part) for key, part in value.items()}
        if "drafts" in value and isinstance(value["drafts"], list):
            packed["drafts"] = list(_added(value["drafts"]))
        return packed
    if isinstance(value, list):
        return [_packed(part) for part in value]
    return _rounded(value) if isinstance(value, float) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        unpacked = {key: _unpacked(part) for key, part in value.items()}
        if "drafts" in value and isinstance(value["drafts"], list):
            unpacked["drafts"] = list(_whole(value["drafts"]))
        return unpacked
    return [_unpacked(part) for part in value] if isinstance(value, list) else value


def _added(drafts: Iterable[dict[str, Any]]) -> Iterator[list[Any]]:
    """Each draft as how much it shares with the one before, and what follows in it."""
    before: dict[str, Any] = {"ids": [], "confidences": [], "text": "", "settled": ""}
    for draft in drafts:
        rounded = _packed(draft)
        parts: list[Any] = []
        for name in SHARED:
            shared = _shared(before[name], rounded[name])
            parts += [shared, rounded[name][shared:]]
        yield [*parts, {key: rounded[key] for key in rounded if key not in SHARED}]
        before = rounded


def _whole(packed: Iterable[list[Any]]) -> Iterator[dict[str, Any]]:
    """The inverse of `_added`."""
    before: dict[str, Any] = {"ids": [], "confidences": [], "text": "", "settled": ""}
    for parts in packed:
        names = zip(SHARED, parts[:-1:2], parts[1:-1:2], strict=True)
        draft = {name: before[name][:shared] + rest for name, shared, rest in names}
        yield draft | parts[-1]
        before = draft


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many leading parts agree."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _rounded(number: float) -> float:
    return float(f"{number:.9g}")
