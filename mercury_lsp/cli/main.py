"""The command line. Each command imports the heavy modules that it needs.

An error with a remedy is printed as one message, and the exit code is 2.
"""

import logging
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mercury_lsp import __version__
from mercury_lsp.cli.bench import bench
from mercury_lsp.cli.complete import complete
from mercury_lsp.cli.evaluate import evaluate
from mercury_lsp.cli.models import models
from mercury_lsp.cli.train import train
from mercury_lsp.errors import SettingsError
from mercury_model.errors import ErrorWithRemedy

log = logging.getLogger(__name__)

app = typer.Typer(
    name="mercury-lsp",
    help="Inline code completion for any LSP editor, from a diffusion language model on your own"
    " machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(complete)
app.command()(bench)
app.command("eval")(evaluate)
app.add_typer(models, name="models")
app.add_typer(train, name="train")


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `mercury-lsp`; `arguments` are those of the process if not given."""
    try:
        app(arguments)
    except ErrorWithRemedy as error:
        typer.echo(f"mercury-lsp: {error}", err=True)
        raise SystemExit(2) from None


@app.callback(invoke_without_command=True)
def serve(  # noqa: PLR0913  the options are what the command is
    context: typer.Context,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve an editor over standard input and output.")
    ] = False,
    tcp: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve an editor that connects here.")
    ] = None,
    pipe: Annotated[
        str | None, typer.Option(metavar="PATH", help="Serve an editor over a named pipe.")
    ] = None,
    client_process_id: Annotated[
        int | None,
        typer.Option(
            "--clientProcessId",
            metavar="PID",
            help="End when this process ends. Editors pass it by themselves.",
        ),
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Log to this file instead of standard error."),
    ] = None,
    log_level: Annotated[Level, typer.Option(help="How much to log.")] = Level.WARNING,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Inline code completion from a diffusion language model on your own machine."""
    ways = [way for way in (stdio and "--stdio", tcp and "--tcp", pipe and "--pipe") if way]
    if version:
        typer.echo(f"mercury-lsp {__version__}")
        return
    if len(ways) > 1 or (ways and context.invoked_subcommand):
        unwanted = [*ways, context.invoked_subcommand or ""]
        raise SettingsError(f"{' '.join(unwanted).strip()} cannot be combined.", "Choose one.")
    log_to(log_file, log_level)
    if context.invoked_subcommand:
        return
    if not ways:
        typer.echo(context.get_help())
        return
    from mercury_lsp import lsp
    from mercury_lsp.config import surroundings

    if surroundings().imports_folder and not sys.flags.ignore_environment:
        log.warning("PYTHONPATH names the working folder; mercury-lsp doctor says how to repair it")
    if tcp:
        host, port = address(tcp)
        code = lsp.serve_tcp(host, port, client_process_id=client_process_id)
    elif pipe:
        code = lsp.serve_pipe(pipe, client_process_id=client_process_id)
    else:
        code = lsp.serve_stdio(client_process_id=client_process_id)
    raise typer.Exit(code)


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="The model to check.")] = "mini",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this installation, and say how to repair what is wrong."""
    from mercury_lsp.cli.doctor import examine, report
    from mercury_lsp.config import surroundings

    examination = examine(surroundings(), model)
    if as_json:
        typer.echo(examination.to_json())
    else:
        report(examination)
    raise typer.Exit(1 if examination.broken else 0)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 host stands in brackets. Raises SettingsError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise SettingsError(f"{text} is not an address.", "Write it as --tcp HOST:PORT.")
    return host.strip("[]") or "127.0.0.1", int(port)


def log_to(file: Path | None, level: Level) -> None:
    """Send the log to `file` or to standard error. Raises SettingsError if it cannot be opened."""
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    try:
        handler = logging.FileHandler(file, encoding="utf-8") if file else None
    except OSError as error:
        raise SettingsError(f"{file} cannot be opened: {error}.", "Name another file.") from error
    logging.basicConfig(
        level=level.value.upper(),
        format=line,
        handlers=[handler or logging.StreamHandler(sys.stderr)],
    )
