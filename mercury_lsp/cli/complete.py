"""`mercury-lsp complete`: one completion as an editor would get it, with live denoising."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mercury_lsp.config import Config, parse, surroundings
from mercury_lsp.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from mercury_lsp.core.types import Completion
    from mercury_lsp.service import ModelInfo, ModelService
    from mercury_model.decoding.output import PartialOutput

LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascriptreact",
    ".ts": "typescript",
    ".tsx": "typescriptreact",
    ".java": "java",
    ".c": "c",
    ".h": "cpp",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".php": "php",
    ".sh": "shellscript",
    ".bash": "shellscript",
    ".go": "go",
    ".rs": "rust",
}
"""LSP language ids by the ending of a file's name."""

_DEADLINE_NS = 60_000_000_000
"""Nobody types meanwhile, so the model may take its time."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor in a text; `uri` and `language` as an editor would give them."""

    uri: str
    language: str
    text: str
    offset: int


def complete(
    where: Annotated[
        str,
        typer.Argument(
            metavar="FILE:LINE[:COL]",
            help="Where the cursor is, counted from 1; at the end of the line if there is no COL.",
        ),
    ],
    model: Annotated[str, typer.Option(help="The model to ask.")] = "mini",
    language: Annotated[
        str | None, typer.Option(help="The language, if the file's name does not say it.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="diffusion, to watch masks; verified, as editors get it; autoregressive. "
            "Without it diffusion, if the weights were trained on masks, else verified."
        ),
    ] = None,
    tradeoff: Annotated[
        float, typer.Option(min=0, max=1, help="0 is one token a step, 1 all tokens at once.")
    ] = 0.5,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the file's unsaved text from standard input.")
    ] = False,
) -> None:
    """Complete one place in a file, and watch masks turn into code."""
    place = find(where, language, sys.stdin.read if stdin else None)
    settings = {"model": model, "qualitySpeedTradeoff": tradeoff} | ({"mode": mode} if mode else {})
    config, problems = parse(settings)
    if problems:
        raise SettingsError(" ".join(problems), "See mercury-lsp complete --help.")
    completion = show(place, config, mode)
    if completion is None:
        typer.echo("Nothing to suggest here.", err=True)
        raise typer.Exit(1)


def find(where: str, language: str | None, unsaved: Callable[[], str] | None = None) -> Place:
    """The place named FILE:LINE[:COL], in the file or in the text that `unsaved` returns.

    Raises SettingsError for a place that does not exist.
    """
    named = re.fullmatch(r"(.+?):(\d+)(?::(\d+))?", where)
    if named is None:
        raise SettingsError(
            f"{where} is not a place in a file.", "Write it as FILE:LINE or FILE:LINE:COL."
        )
    path, line, column = Path(named[1]), int(named[2]), int(named[3]) if named[3] else None
    text = unsaved() if unsaved else _read(path)
    known = language or LANGUAGES.get(path.suffix.lower(), "plaintext")
    return Place(path.resolve().as_uri(), known, text, _offset(text, line, column))


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.", "Name a file.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not text in UTF-8.", "Name a source file.") from error


def _offset(text: str, line: int, column: int | None) -> int:
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise SettingsError(f"There is no line {line}.", f"Lines are 1 to {len(lines)}.")
    here = lines[line - 1].removesuffix("\r")
    column = len(here) + 1 if column is None else column
    if not 1 <= column <= len(here) + 1:
        raise SettingsError(f"Line {line} has no column {column}.", f"It has 1 to {len(here) + 1}.")
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1


def show(place: Place, config: Config, mode: str | None) -> "Completion | None":
    """Complete `place`: live on a terminal; elsewhere only the text to insert is printed.

    Without a `mode` the denoising is shown, if the weights were trained on masks.
    """
    from rich.console import Console

    from mercury_lsp.service import ModelService, ModelSettings, model_store

    here = surroundings()
    store = model_store(here.cache_dir, offline=here.offline)
    with ModelService(store.load) as service:
        info = service.load(ModelSettings(config.model, config.threads)).result()
        assert info is not None
        if mode is None and info.card.infill.masks_trained:
            config = replace(config, mode="diffusion")
        languages = info.card.infill.languages
        if place.language not in languages:
            known = ", ".join(languages)
            typer.echo(f"{config.model} was trained on {known}, not {place.language}.", err=True)
        console = Console(highlight=False)
        if console.is_terminal:
            return _live(place, service, info, config, console)
        completion = _ask(place, service, info, config, time.monotonic_ns, lambda output: None)
    if completion is not None:
        typer.echo(completion.text)
    return completion


def _live(
    place: Place,
    service: "ModelService",
    info: "ModelInfo",
    config: Config,
    console: "Console",
) -> "Completion | None":
    from rich.live import Live

    from mercury_lsp.cli.terminal import Page, Screen, Tokens

    page = Page(place.text, place.offset, place.offset)
    tokens = Tokens(info.tokenizer.decode, info.card.infill.mask_id)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        screen = Screen(live, page, tokens, time.monotonic_ns, time.sleep)
        completion = _ask(place, service, info, config, screen.clock, screen.draft)
        screen.done(completion)
    return completion


def _ask(
    place: Place,
    service: "ModelService",
    info: "ModelInfo",
    config: Config,
    clock: Callable[[], int],
    watch: "Callable[[PartialOutput], None]",
) -> "Completion | None":
    """The completion that an editor would be offered, given enough time."""
    from mercury_lsp.backend.infill import Backend, limits
    from mercury_lsp.core import pipeline
    from mercury_lsp.core.budget import Budget
    from mercury_lsp.core.cache import CompletionCache
    from mercury_lsp.core.types import Document, Request, Trigger
    from mercury_lsp.lsp.neighbours import beside

    document = Document(place.uri, place.language, place.text)
    others = beside(document) if config.neighbours else ()
    return pipeline.complete(
        Request(document, place.offset, Trigger.INVOKED, others=others),
        partial(Backend(service, config).infill, watch=watch),
        CompletionCache(0),
        Budget(clock() + _DEADLINE_NS, clock),
        pipeline.CompletionPolicy(limits(info.card)),
    )
