"""`mercury-lsp models`: list, fetch, describe, plan for and remove models."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mercury_lsp.cli.plan import plan
from mercury_lsp.config import surroundings

if TYPE_CHECKING:
    from mercury_model.spec.card import ModelCard
    from mercury_model.weights.registry import ModelEntry
    from mercury_model.weights.sources import Progress

models = typer.Typer(
    help="List, fetch, describe, plan for and remove models.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models.command()(plan)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name from `models list`, or a folder.")
]

_MEGABYTE = 1_000_000


@models.command("list")
def list_models() -> None:
    """List all models, and which of them are on this machine."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mercury_model.weights import registry as table_of_models

    folder = surroundings().cache_dir
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "here", "download"):
        table.add_column(column, no_wrap=True, justify="right" if column == "download" else "left")
    table.add_column("languages", max_width=16)
    table.add_column("what it is", min_width=21, overflow="fold")
    for entry in table_of_models.MODELS.values():
        card = table_of_models.card(entry.name)
        here = table_of_models.is_available(entry.name, folder)
        table.add_row(
            f"[bold]{entry.name}[/bold]\n{entry.alias}",
            "[green]yes[/green]" if here else "no",
            _megabytes(entry.download_bytes) if entry.download_bytes else "bundled",
            ", ".join(card.infill.languages),
            card.description,
        )
    Console().print(table)
    missing = [n for n in table_of_models.MODELS if not table_of_models.is_available(n, folder)]
    for name in missing:
        typer.echo(f"Fetch {name} with: mercury-lsp models pull {name}")


@models.command()
def pull(name: Name) -> None:
    """Fetch the weights of a model: the only command that uses the network."""
    from mercury_model import auto
    from mercury_model.weights import registry as table_of_models

    where = surroundings()
    entry = table_of_models.find(name)
    if entry.base is None:
        typer.echo(f"{entry.name} {entry.origin}; there is nothing to fetch.")
        return
    with _progress(entry.name) as progress:
        table_of_models.pull(
            entry.name, cache_dir=where.cache_dir, offline=where.offline, progress=progress
        )
    typer.echo("Fetched and checked; making them ready ...")
    step_ms = auto.measure(name, where.cache_dir, time.monotonic_ns)
    typer.echo(f"{entry.name} is ready in {where.cache_dir}")
    enough = "fast enough" if step_ms <= auto.MAX_STEP_MS else "too slow"
    typer.echo(f"A step takes {step_ms:.0f} ms here, {enough} for suggestions while you type.")


@models.command()
def info(name: Name) -> None:
    """Describe a model."""
    from rich.console import Console
    from rich.table import Table

    from mercury_model.weights import registry as table_of_models

    folder = surroundings().cache_dir
    entry = table_of_models.find(name)
    here = table_of_models.is_available(entry, folder)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _facts(entry, table_of_models.card(entry)):
        table.add_row(f"[bold]{key}[/bold]", value)
    place = f"in {entry.folder or folder}" if entry.base or entry.folder else entry.origin
    table.add_row("[bold]on this machine[/bold]", place if here else "no")
    Console().print(table)


@models.command()
def remove(name: Name) -> None:
    """Delete the downloaded and generated files of a model."""
    from mercury_model.weights import registry as table_of_models

    entry = table_of_models.find(name)
    if entry.base is None:
        typer.echo(f"{entry.name} {entry.origin}; it stays.")
        return
    freed = table_of_models.remove(entry.name, cache_dir=surroundings().cache_dir)
    typer.echo(f"{_megabytes(freed)} freed." if freed else "There was nothing to remove.")


def _facts(entry: "ModelEntry", card: "ModelCard") -> Iterator[tuple[str, str]]:
    shape, infill = card.architecture, card.infill
    yield "name", f"{entry.name}, or {entry.alias}"
    yield "what it is", card.description
    yield "licence", card.licence
    yield "languages", ", ".join(infill.languages)
    yield (
        "architecture",
        f"{shape.num_layers} layers of {shape.hidden_size}, {shape.num_heads} heads, "
        f"{shape.vocab_size:,} tokens",
    )
    yield (
        "sees",
        f"{infill.prefix_tokens} tokens before the cursor, {infill.suffix_tokens} after it, "
        + (f"{infill.file_tokens} of other files" if infill.file_tokens else "no other files"),
    )
    yield "writes", f"up to {infill.middle_tokens} tokens, {infill.block_length} at a time"
    for weights in entry.weights:
        yield "bundled", f"{weights.file}, sha256 {weights.sha256}"
    if entry.base is not None:
        yield "fetched", f"{entry.base.file}, {_megabytes(entry.download_bytes)}"
        yield "", f"sha256 {entry.base.sha256}"
        yield "from", f"{entry.base.hub.repository} (hub), revision {entry.base.hub.revision}"
        first, *more = (part.requirement for part in entry.base.parts)
        packages = (
            f"{first} … {more[-1]} ({len(more) + 1} packages)" if more else f"{first} (package)"
        )
        yield "or", packages


@contextmanager
def _progress(name: str) -> Iterator["Progress"]:
    """A progress bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:,.0f} MB"
