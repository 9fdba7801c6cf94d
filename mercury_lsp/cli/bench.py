"""`mercury-lsp bench`: its options and its output."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercury_lsp.config import Config, camel, parse
from mercury_lsp.errors import SettingsError

if TYPE_CHECKING:
    from mercury_lsp.bench.harness import Progress
    from mercury_lsp.bench.trace import Trace

MODES = {
    "ar": "autoregressive",
    "autoregressive": "autoregressive",
    "diffusion": "diffusion",
    "verified": "verified",
}
_GAP_SETTINGS = {"invokedDeadlineMs": 60_000, "alternatives": 1}
"""Gaps measure the model's knowledge, so no deadline may cut it short."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure. `settings` are as an editor sends them, without the mode."""

    modes: tuple[str, ...]
    settings: Mapping[str, Any]
    config: Config


def bench(  # noqa: PLR0913  the options are what the command is
    model: Annotated[str, typer.Option(help="The model to measure.")] = "mini",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this decoding mode, too: ar, diffusion or verified. Repeatable."
        ),
    ] = None,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Fill sixty gaps in known code instead of typing.")
    ] = False,
    starts: Annotated[
        int | None,
        typer.Option(min=1, help="Instead, time this many starts until the first completion."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the server. Repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of the typed trace.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="Type this many times faster.")] = 1.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Stop typing after this many seconds at normal speed."),
    ] = None,
    editors: Annotated[
        int,
        typer.Option(min=1, help="Type into this many documents at once, each with its own text."),
    ] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Fill only this many gaps.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the figures as PNG here.")
    ] = None,
) -> None:
    """Measure a real server: replay a typed trace, fill gaps in known code, or start it."""
    if gaps and starts:
        raise SettingsError("--gaps and --starts cannot be combined.", "Choose one.")
    plan = planned(model, compare or (), settings or (), _GAP_SETTINGS if gaps else {})
    if (gaps or starts) and plot_file:
        raise SettingsError("Only a trace has a plot.", "Leave --plot out.")
    _require_weights(plan.config.model)
    for path in (json_file, plot_file):
        _require_folder(path)
    if gaps:
        _gaps(plan, limit, json_file)
    elif starts:
        _starts(plan, starts, json_file)
    else:
        _trace(plan, Typing(seed, speed, seconds, editors), json_file, plot_file)


@dataclass(frozen=True, slots=True)
class Typing:
    """Which trace, how fast, how much of it, and into how many documents at once."""

    seed: int | None
    speed: float
    seconds: float | None
    editors: int

    def traces(self) -> tuple["Trace", ...]:
        """One for each document, with consecutive seeds."""
        from mercury_lsp.bench.sources import sources
        from mercury_lsp.bench.trace import SEED, type_out

        first = SEED if self.seed is None else self.seed
        traces = [type_out(sources("trace"), first + editor) for editor in range(self.editors)]
        if self.seconds is None:
            return tuple(traces)
        return tuple(trace.cut(self.seconds) for trace in traces)


def planned(
    model: str, compare: Sequence[str], pairs: Sequence[str], defaults: Mapping[str, Any]
) -> BenchOptions:
    """The modes to measure, starting with the configured one, and the settings of their servers.

    Raises SettingsError for settings that no server would accept.
    """
    raw: dict[str, Any] = {**defaults, "model": model}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair} has no value.", "Write it as --set KEY=VALUE.")
        raw[key] = _value(value)
    config, problems = parse(raw)
    if problems:
        raise SettingsError(" ".join(problems), f"Settings are: {', '.join(_keys())}.")
    for name in compare:
        if name not in MODES:
            raise SettingsError(f"There is no mode {name}.", f"Choose from {', '.join(MODES)}.")
    raw.pop("mode", None)
    modes = dict.fromkeys((config.mode, *(MODES[name] for name in compare)))
    return BenchOptions(tuple(modes), raw, config)


def _keys() -> Iterator[str]:
    return (camel(field.name) for field in fields(Config))


def _value(text: str) -> Any:
    """A JSON value, or a plain word."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _trace(
    plan: BenchOptions, typing: Typing, json_file: Path | None, plot_file: Path | None
) -> None:
    from rich.console import Console

    from mercury_lsp.bench import document, plot, table
    from mercury_lsp.bench.harness import replay
    from mercury_lsp.bench.replay import HumanTiming

    traces = typing.traces()
    where = document.environment(plan.settings)
    with _progress() as progress:
        runs = asyncio.run(
            replay(traces, plan.modes, plan.settings, lambda: HumanTiming(typing.speed), progress)
        )
    Console().print(table.of_trace(where, traces, typing.speed, runs))
    if json_file:
        _write(json_file, document.of_trace(where, traces, typing.speed, runs))
    if plot_file:
        plot.save(plot_file, where, runs, plan.config.deadline_ms)


def _gaps(plan: BenchOptions, limit: int | None, json_file: Path | None) -> None:
    from rich.console import Console

    from mercury_lsp.bench import document, table
    from mercury_lsp.bench.gaps import SEED, cases
    from mercury_lsp.bench.harness import fill_gaps

    where = document.environment(plan.settings)
    with _progress() as progress:
        runs = asyncio.run(fill_gaps(cases()[:limit], plan.modes, plan.settings, progress))
    Console().print(table.of_gaps(where, runs))
    if json_file:
        _write(json_file, document.of_gaps(where, SEED, runs))


def _starts(plan: BenchOptions, count: int, json_file: Path | None) -> None:
    from rich.console import Console

    from mercury_lsp.bench import document, table
    from mercury_lsp.bench.starts import start_up

    where = document.environment(plan.settings)
    with _progress() as progress:
        run = asyncio.run(start_up(count, plan.config.mode, plan.settings, progress))
    Console().print(table.of_starts(where, run))
    if json_file:
        _write(json_file, document.of_starts(where, run))


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A progress bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(
        *columns,
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("starting the server", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}.", "Name another file.") from error


def _require_folder(path: Path | None) -> None:
    """Check the folder first: a benchmark takes minutes."""
    if path is not None and not path.resolve().parent.is_dir():
        raise SettingsError(f"There is no folder {path.parent}.", "Create it first.")


def _require_weights(model: str) -> None:
    """Raise WeightsMissing at once: a server without weights would wait for them."""
    from mercury_lsp.config import surroundings
    from mercury_model import auto
    from mercury_model.errors import WeightsMissing
    from mercury_model.weights import registry

    cache_dir = surroundings().cache_dir
    chosen = auto.resolve(model, cache_dir).name
    if not registry.is_available(chosen, cache_dir):
        raise WeightsMissing(
            f"The weights of {chosen} are not on this machine.",
            f"Run: mercury-lsp models pull {chosen}.",
        )
