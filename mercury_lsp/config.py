"""Every setting, its default, its unit and its bounds; the only place that reads the environment.

`parse` never fails: a setting that cannot be used is reported once and keeps its default.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import platformdirs

Mode: TypeAlias = Literal["diffusion", "autoregressive", "verified"]

SECTION = "mercury"
"""The name under which editors keep these settings."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that a setting may have (a range or a list of names), and its purpose."""

    purpose: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


def _setting(
    default: Any,
    purpose: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    return field(default=default, metadata={"bounds": Bounds(purpose, minimum, maximum, choices)})


@dataclass(frozen=True, slots=True)
class Config:
    """The server's settings. Editors send them in camelCase."""

    enable: bool = _setting(True, "Offer inline completions at all.")
    model: str = _setting(
        "mini",
        "The model to use: a name from `mercury-lsp models list`, a folder of a model, or auto for"
        " the best one that is here and fast enough.",
    )
    mode: Mode = _setting(
        "verified",
        "The decoding mode: drafts that are verified in one pass, diffusion alone, or one token"
        " after another.",
        choices=get_args(Mode),
    )
    quality_speed_tradeoff: float = _setting(
        0.5, "0 commits one token a step (best), 1 all at once (fastest).", 0, 1
    )
    deadline_ms: int = _setting(
        150, "Time limit of an automatic request, in milliseconds.", 1, 60_000
    )
    invoked_deadline_ms: int = _setting(
        1_500, "Time limit of a request made by key or command, in milliseconds.", 1, 60_000
    )
    max_tokens: int = _setting(60, "The longest completion, in tokens.", 1, 1_024)
    min_confidence: float = _setting(
        0.1, "Automatic suggestions that are less likely to be right than this are hidden.", 0, 1
    )
    distraction: float = _setting(
        4.0,
        "The cost of a wrong suggestion in keys. The part of a line that saves most is shown.",
        0,
        1_000,
    )
    alternatives: int = _setting(3, "How many completions an invoked request returns.", 1, 8)
    neighbours: bool = _setting(
        True, "Also read files in the folder of an open one: their code is often repeated in it."
    )
    disabled_languages: tuple[str, ...] = _setting((), "LSP language ids without suggestions.")
    cache_entries: int = _setting(
        250, "How many completions are kept, to serve suggestions that are being typed.", 0, 100_000
    )
    context_megabytes: int = _setting(
        64, "Memory for the keys and values of document contexts, in megabytes.", 16, 65_536
    )
    threads: int = _setting(0, "CPU threads of the model; 0 means one per physical core.", 0, 1_024)


def parse(raw: object, base: Config | None = None) -> tuple[Config, tuple[str, ...]]:
    """Settings as sent by an editor: the resulting config, and the problems found.

    Keys are camelCase, optionally inside `{"mercury": {…}}`. Each unknown key is a problem of one
    sentence, and so is each value of the wrong type or out of range. Such a setting keeps its value
    of `base` (the defaults, if not given).
    """
    base = base or Config()
    if raw is None:
        return base, ()
    if not isinstance(raw, Mapping):
        return base, (f"Settings must be an object, not {type(raw).__name__}; they are ignored.",)
    nested = raw.get(SECTION)
    sent: Mapping[object, object] = nested if isinstance(nested, Mapping) else raw
    known = {camel(f.name): f for f in fields(Config)}
    values = {f.name: getattr(base, f.name) for f in fields(Config)}
    problems = []
    for key, value in sent.items():
        if key not in known:
            problems.append(f"Unknown setting {SECTION}.{key}; it is ignored.")
            continue
        setting = known[key]
        problem = _problem(value, setting.default, setting.metadata["bounds"])
        if problem:
            kept = values[setting.name]
            problems.append(f"{SECTION}.{key} {problem}; {kept!r} is used.")
        else:
            values[setting.name] = _coerce(value, setting.default)
    return Config(**values), tuple(problems)


def camel(name: str) -> str:
    """`deadline_ms` as editors write it: `deadlineMs`."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _problem(value: object, default: object, bounds: Bounds) -> str | None:
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(default, tuple):
        strings = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        return None if strings else "must be a list of strings"
    if isinstance(default, str):
        if not isinstance(value, str):
            return "must be a string"
        if bounds.choices and value not in bounds.choices:
            return f"must be one of {', '.join(bounds.choices)}"
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a number"
    if isinstance(default, int) and value != int(value):
        return "must be a whole number"
    low, high = bounds.minimum, bounds.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        return f"must lie between {low} and {high}"
    return None


def _coerce(value: Any, default: object) -> object:
    """A list becomes a tuple and 150.0 becomes 150; `_problem` has let nothing else through."""
    if isinstance(default, tuple):
        return tuple(value)
    return type(default)(value) if isinstance(default, int | float) else value


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Settings of the environment: where files are kept, and whether the network may be used.

    `imports_folder`: PYTHONPATH has an empty or relative entry, so Python would run files of the
    folder in which it is started: a user's workspace.
    """

    cache_dir: Path
    offline: bool
    imports_folder: bool = False


def surroundings(environment: Mapping[str, str] = os.environ) -> Surroundings:
    """Read MERCURY_CACHE, PYTHONPATH, and MERCURY_OFFLINE, HF_HUB_OFFLINE and PIP_NO_INDEX."""
    cache = environment.get("MERCURY_CACHE") or platformdirs.user_cache_dir("mercury-lsp")
    switches = ("MERCURY_OFFLINE", "HF_HUB_OFFLINE", "PIP_NO_INDEX")
    offline = any(
        environment.get(name, "0").lower() in ("1", "true", "yes", "on") for name in switches
    )
    path = environment.get("PYTHONPATH", "")
    imports_folder = any(not os.path.isabs(entry) for entry in path.split(os.pathsep) if path)
    return Surroundings(Path(cache), offline, imports_folder)
