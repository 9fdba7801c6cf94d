"""`mercury-lsp models plan`: the best way to run a model in the available memory."""

import json
import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mercury_lsp.errors import SettingsError

if TYPE_CHECKING:
    from mercury_model.memory import Configuration, MemoryPlan

_UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}


def plan(  # noqa: PLR0913  the options are what the command is
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name from `models list`, or a larger shape.")
    ] = "mini",
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="For example 8GB or 900MB; the free memory if omitted."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Concurrent sequences; examples per step in training.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a sequence; the model's own limit if omitted."),
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the model runs.")] = "cpu",
    train: Annotated[bool, typer.Option("--train", help="Plan `mercury-lsp train adapt`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan the best precision, batch and block size, or training, for the available memory."""
    from mercury_model.load import network_shape
    from mercury_model.memory import MemoryEfficientDiffusion

    planner = MemoryEfficientDiffusion(
        network_shape(model), None if memory is None else parsed(memory), device
    )
    if train:
        made = planner.optimize_training_memory(batch or 3, tokens or planner.shape.tokens)
    else:
        made = planner.optimize_memory_usage(batch or 1, tokens or planner.shape.tokens)
    if as_json:
        typer.echo(json.dumps(_facts(made), indent=1))
    else:
        _show(made)


def parsed(size: str) -> int:
    """The bytes of a size with its unit. Raises SettingsError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG]i?B)", size.strip(), re.IGNORECASE)
    if found is None:
        raise SettingsError(f"{size} is no size.", "Write it as --memory 8GB, 900MB or 8GiB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _facts(made: "MemoryPlan") -> dict[str, object]:
    """The plan as plain values; memory in bytes."""
    return {
        "model": made.model,
        "free_bytes": made.free_bytes,
        "tokens": made.best.tokens,
        **made.best.settings(),
        "peak_bytes": made.best.footprint.peak,
        "parts_bytes": {
            "libraries": made.best.footprint.libraries,
            **made.best.footprint.parts,
        },
        "first_load_bytes": made.first_load_bytes,
        "why": made.why,
    }


def _show(made: "MemoryPlan") -> None:
    """A row for each considered way to run the model, and the chosen one."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mercury_model.memory.footprint import MB, readable

    best = made.best
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.caption = f"{'At a time × times' if best.micro_batch else 'Batch × block'}; memory in MB."
    table.add_column("", no_wrap=True)
    for name in ("batch", *_sizes(best), ""):
        table.add_column(name, no_wrap=True, justify="right")
    for shown in _worth_showing(made):
        fits = shown.footprint.peak <= made.free_bytes
        table.add_row(
            *_said(shown),
            *(f"{size / MB:,.0f}" for size in _sizes(shown).values()),
            "✓" if shown == best else "" if fits else "✗",
            style="bold" if shown == best else "" if fits else "dim",
        )
    Console().print(table)
    free = readable(made.free_bytes)
    typer.echo(f"{made.model}, {best.tokens} tokens, {free} free: {made.why}.")
    if made.first_load_bytes:
        once = readable(made.first_load_bytes)
        typer.echo(f"Its first load makes the weights ready, which takes {once} once.")
    if best.micro_batch:
        options = " --recompute" * best.recompute + " --device cuda" * (made.device == "cuda")
        typer.echo(
            f"Run: mercury-lsp train adapt --model {made.model} --examples {best.batch}"
            f" --precision {best.precision.name}{options}"
        )


def _sizes(one: "Configuration") -> dict[str, int]:
    """Bytes by column; an adapter's gradients and moments count with it."""
    parts = dict(one.footprint.parts)
    state = sum(parts.pop(name, 0) for name in ("gradients", "optimiser"))
    if "adapters" in parts:
        parts["adapters"] += state
    work = parts.pop("workspace")
    return {"libs": one.footprint.libraries, **parts, "work": work, "in all": one.footprint.peak}


def _said(one: "Configuration") -> tuple[str, str]:
    """The precision, and the batch and block size."""
    p = one.precision
    if one.micro_batch:
        times = one.batch // one.micro_batch
        return f"{p.name}{' recompute' * one.recompute}", f"{one.micro_batch} × {times}"
    return f"{p.name}, kv {p.kv_name}", f"{one.batch} × {one.block}"


def _worth_showing(made: "MemoryPlan") -> list["Configuration"]:
    """The first considered plan of each precision, and the chosen one."""
    seen: set[tuple[object, ...]] = set()
    rows = []
    for one in made.considered:
        key = (one.precision, one.recompute)
        if key not in seen or one == made.best:
            rows.append(one)
        seen.add(key)
    return rows
