"""Checks an installation and says how to repair it. Changes nothing and uses no network."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from mercury_lsp import machine
from mercury_lsp.config import Surroundings
from mercury_model import dependencies
from mercury_model.errors import ErrorWithRemedy

LANGUAGES = (
    "python",
    "javascript",
    "typescript",
    "typescriptreact",
    "java",
    "cpp",
    "php",
    "shellscript",
    "go",
    "rust",
)
"""LSP language ids whose grammars come with the distribution."""

SAFELY = f"{sys.executable} -I -m mercury_lsp --stdio"
"""The command of a server that ignores Python's environment variables."""

_ENOUGH_MEMORY = 2 << 30
_ENOUGH_DISK = 1 << 30
_TRIAL = ("def add(a, b):\n    return ", "\n")


class State(StrEnum):
    """The state of a finding. With a warning the server works, but less well."""

    FINE = "fine"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, with a remedy unless it is fine."""

    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> bool:
        """Whether the server cannot work."""
        return any(finding.state is State.BROKEN for finding in self.findings)

    def to_json(self) -> str:
        """The findings as JSON."""
        return json.dumps(
            {"broken": self.broken, "findings": [asdict(finding) for finding in self.findings]},
            indent=1,
        )


Look = Callable[[], Iterator[Finding]]


def examine(where: Surroundings, model: str) -> Examination:
    """Check everything that the server needs to offer completions of `model`, a name or "auto"."""
    from mercury_model import auto

    model = auto.resolve(model, where.cache_dir).name
    looks: Sequence[tuple[str, Look]] = (
        ("python", lambda: _python(where)),
        ("processor", _processor),
        ("memory", _memory),
        ("cache folder", lambda: _cache_folder(where.cache_dir)),
        ("network", lambda: _network(where)),
        ("weights", lambda: _weights(where.cache_dir, model)),
        ("completion", lambda: _completion(where.cache_dir, model)),
        ("auto", lambda: _auto(where.cache_dir)),
        ("grammars", _grammars),
        ("versions", _versions),
    )
    return Examination(tuple(finding for name, look in looks for finding in _safely(name, look)))


def report(examination: Examination) -> None:
    """Print the findings, and what to do about those that are not fine."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {State.FINE: ("✓", "green"), State.WARNING: ("!", "yellow"), State.BROKEN: ("✗", "red")}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in examination.findings:
        mark, style = marks[finding.state]
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"\n→ {finding.remedy}", style="bold" if style != "green" else "dim")
        table.add_row(Text(mark, style=style), Text(finding.name, style="bold"), detail)
    console = Console(highlight=False)
    console.print(table)
    wrong = sum(finding.state is State.BROKEN for finding in examination.findings)
    console.print(f"{wrong} wrong." if wrong else "All is well.", style="red" if wrong else "green")


def _safely(name: str, look: Look) -> Iterator[Finding]:
    """Run a check. Any error that stops it is a finding."""
    try:
        yield from look()
    except ErrorWithRemedy as error:
        yield Finding(name, State.BROKEN, error.what, error.remedy)
    except ImportError as error:
        yield Finding(name, State.BROKEN, f"{error}.", "Reinstall mercury-lsp.")
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        yield Finding(
            name, State.BROKEN, detail, "Reinstall mercury-lsp; if the error stays, report it."
        )


def _python(where: Surroundings) -> Iterator[Finding]:
    # An older Python than the distribution allows does not get as far as this.
    detail = f"{sys.version.split()[0]} at {sys.executable}"
    if where.imports_folder and not sys.flags.ignore_environment:
        detail += "; PYTHONPATH has an empty or relative entry, so files of a workspace may run"
        yield Finding("python", State.WARNING, detail, f"Correct PYTHONPATH, or start: {SAFELY}.")
    else:
        yield Finding("python", State.FINE, detail)


def _processor() -> Iterator[Finding]:
    here = machine.describe()
    flags = " ".join(here.flags) or "instruction sets unknown"
    detail = f"{here.processor}, {here.cores} cores, {here.threads} threads; {flags}"
    yield Finding("processor", State.FINE, detail)


def _memory() -> Iterator[Finding]:
    total = machine.describe().memory_bytes
    detail = f"{total / (1 << 30):.1f} GiB"
    if total >= _ENOUGH_MEMORY:
        yield Finding("memory", State.FINE, detail)
    else:
        remedy = 'Set mercury.model to "tiny", and mercury.contextMegabytes to 16.'
        yield Finding("memory", State.WARNING, detail, remedy)


def _cache_folder(folder: Path) -> Iterator[Finding]:
    name = "cache folder"
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        remedy = "Make it writable, or set MERCURY_CACHE to another folder."
        yield Finding(name, State.BROKEN, f"{folder} cannot be written", remedy)
        return
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free < _ENOUGH_DISK:
        remedy = "Free a gigabyte, or set MERCURY_CACHE to another disk."
        yield Finding(name, State.WARNING, detail, remedy)
    else:
        yield Finding(name, State.FINE, detail)


def _network(where: Surroundings) -> Iterator[Finding]:
    asked = "when weights are asked for alone: `mercury-lsp models pull`, an editor's Download"
    use = "never: offline is set" if where.offline else asked
    loud = [name for name in dependencies.SILENCE if not dependencies.silence(name)]
    if loud:
        detail = f"used {use}; {', '.join(loud)} may report to its publisher"
        remedy = "Import mercury_lsp first, or set ORT_DISABLE_TELEMETRY=1 before Python starts."
        yield Finding("network", State.WARNING, detail, remedy)
    else:
        silent = ", ".join(dependencies.SILENCE)
        yield Finding("network", State.FINE, f"used {use}; telemetry is off: {silent}")


def _grammars() -> Iterator[Finding]:
    from mercury_lsp.core import syntax

    failed = {}
    for language in LANGUAGES:
        try:
            if syntax.errors(language, "") is None:
                failed[language] = "there is no grammar"
        except Exception as error:  # a binary wheel of the wrong kind fails in its own way
            failed[language] = f"{error}"
    if not failed:
        yield Finding("grammars", State.FINE, ", ".join(LANGUAGES))
        return
    detail = "; ".join(f"{language}: {problem}" for language, problem in failed.items())
    remedy = "Reinstall mercury-lsp; until then these are completed as plain text."
    yield Finding("grammars", State.WARNING, detail, remedy)


def _versions() -> Iterator[Finding]:
    found = machine.versions()
    found.pop("python")
    yield Finding("versions", State.FINE, ", ".join(f"{k} {v}" for k, v in found.items()))


def _weights(cache_dir: Path, model: str) -> Iterator[Finding]:
    """Whether `model`, if it is a folder, and each known model are here and unaltered.

    Of the known models only `model` must be here.
    """
    from mercury_model.weights import checkpoint, registry

    wanted = registry.find(model)
    if wanted.folder is not None:
        registry.tokenizer(wanted, cache_dir)
        registry.merged(wanted, cache_dir)
        yield Finding(f"weights in {wanted.folder}", State.FINE, "here, and they fit the card")
    for entry in registry.MODELS.values():
        name = f"weights of {entry.name}"
        absent = State.BROKEN if entry == wanted else State.FINE
        if not registry.is_available(entry.name, cache_dir):
            remedy = f"Run: mercury-lsp models pull {entry.name}."
            yield Finding(name, absent, "not on this machine", remedy)
            continue
        try:
            for weights in entry.weights:
                weights.open()
            if entry.base is not None:
                checkpoint.check(cache_dir / entry.base.file, entry.base.sha256)
        except ErrorWithRemedy as error:
            yield Finding(name, State.BROKEN, error.what, error.remedy)
        else:
            yield Finding(name, State.FINE, "here, hashes match")


def _completion(cache_dir: Path, model: str) -> Iterator[Finding]:
    """Load the model and let it write: whether everything works together, and how fast."""
    from mercury_lsp.service import ModelService, ModelSettings, model_store
    from mercury_model.decoding.params import SamplingParams
    from mercury_model.decoding.prompt import FimPrompt

    store = model_store(cache_dir, offline=True)
    with ModelService(store.load) as service:
        started = time.perf_counter()
        info = service.load(ModelSettings(model)).result()
        assert info is not None
        ready = time.perf_counter()
        *_, output = service.drafts(FimPrompt(*_TRIAL), SamplingParams(stop=("\n",)))
        done = time.perf_counter()
    name = info.runtime
    detail = f"{name}{_why(name, machine.describe().flags)}; loaded in {ready - started:.1f} s"
    yield Finding("runtime", State.FINE, detail)
    wrote = f"{_TRIAL[0].splitlines()[-1].strip()} … {output.text.strip()!r}"
    yield Finding("completion", State.FINE, f"{wrote} in {(done - ready) * 1000:.0f} ms")


def _auto(cache_dir: Path) -> Iterator[Finding]:
    """What the setting `model = "auto"` chooses; models that were not timed yet are timed now."""
    from mercury_model import auto
    from mercury_model.weights import registry

    times = auto.step_times(cache_dir)
    steps = []
    for name in auto.BEST_FIRST:
        if registry.is_available(name, cache_dir):
            known = times.get(registry.find(name).key)
            step_ms = auto.measure(name, cache_dir, time.monotonic_ns) if known is None else known
            steps.append(f"{name} {step_ms:.0f} ms")
    choice = auto.resolve(auto.AUTO, cache_dir)
    detail = f"{choice.name}, {choice.why}; a step takes: {', '.join(steps) or 'nothing to time'}"
    yield Finding("auto", State.WARNING if choice.compromise else State.FINE, detail)


def _why(runtime: str, flags: Sequence[str]) -> str:
    """Why this runtime was chosen, if there is a reason."""
    if "int8-unsigned" in runtime:
        return ", because sums of mixed 8-bit products would saturate on this processor"
    exact = [flag for flag in flags if flag.endswith("vnni") or flag == "asimddp"]
    if "int8" in runtime and exact:
        return f", because this processor sums 8-bit products exactly ({', '.join(exact)})"
    return ""
