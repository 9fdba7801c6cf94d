"""`mercury-lsp train`: the corpus, and the adaptation of a model on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mercury_lsp.config import surroundings
from mercury_lsp.errors import SettingsError
from mercury_model import dependencies

if TYPE_CHECKING:
    from mercury_model.training.manifest import Package

train = typer.Typer(
    help="Build the training corpus and adapt a model on it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PROBE_EXAMPLES = 20
"""Held-out examples that the losses in the log are measured on."""

Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the corpus is.")]


@train.command()
def data(
    corpus: Folder = Path("runs/corpus"),
    archives: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where downloaded packages are kept.")
    ] = Path("runs/archives"),
) -> None:
    """Download the packages of the manifest with pip, npm and apt-get, and clean their sources."""
    from collections import Counter

    from mercury_model.training import data as corpora
    from mercury_model.training import manifest
    from mercury_model.training.start import HELD_OUT, TRAIN

    if surroundings().offline:
        raise SettingsError("The network is switched off.", "Unset MERCURY_OFFLINE to fetch data.")
    packages = manifest.load()
    with typer.progressbar(packages, label="Fetching", item_show_func=_name) as each:
        missing = [package for package in each if manifest.fetch([package], archives)]
    for package in missing:
        typer.echo(f"Left out: {package.name} {package.version} is not to be had as it was.")
    present = [package for package in packages if package not in missing]
    for split, file in (("held-out", HELD_OUT), ("train", TRAIN)):
        dropped: Counter[str] = Counter()
        size = corpora.write(corpora.build(present, archives, split, dropped), corpus / file)
        typer.echo(f"{split}: " + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in size.most_common()))
        typer.echo("  files left out: " + ", ".join(f"{v} {k}" for k, v in dropped.most_common()))


@train.command()
def adapt(  # noqa: PLR0913  the options are what the command is
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Checkpoint, log and curves; resumed if there.")
    ] = Path("runs/mini"),
    corpus: Folder = Path("runs/corpus"),
    model: Annotated[str, typer.Option(help="The model to start from.")] = "mini",
    steps: Annotated[
        int, typer.Option(min=1, help="The step at which the learning rate reaches zero.")
    ] = 800,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after this time; the same command resumes.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the first GPU.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    examples: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 3,
    rate: Annotated[
        float, typer.Option(min=0.01, max=2.0, help="Multiplies the usual learning rates.")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(min=1, help="Draws the examples; use another seed than the run before.")
    ] = 1,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        typer.Option(help="Of the frozen weights; auto is what the device is fast at."),
    ] = "auto",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Checkpoint gradients: less memory, more time.")
    ] = False,
) -> None:
    """Train the autoregressive and the diffusion head; resumable at any step."""
    import torch

    from mercury_model.training.adaptation import AdapterConfig
    from mercury_model.training.loop import LoopSchedule, train_loop
    from mercury_model.training.start import prepare

    _require(corpus)
    if threads:
        torch.set_num_threads(threads)
    config = AdapterConfig(steps=steps, examples=examples, seed=seed, recompute=recompute)
    dtype = {"auto": None, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    where = surroundings().cache_dir
    ready = prepare(model, config.scaled(rate), corpus, where, torch.device(device), dtype)
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    with _interrupted() as interrupted:
        for report in train_loop(
            ready.trainer,
            lambda: ready.held_out.batch(0, PROBE_EXAMPLES),
            out,
            LoopSchedule(),
            time.monotonic,
            lambda: interrupted() or time.monotonic() > end,
        ):
            typer.echo(_line(report, steps))


@train.command()
def curves(
    run: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    out: Annotated[Path, typer.Argument(metavar="PNG", help="The picture to write.")],
) -> None:
    """Draw the loss curves of a run."""
    from mercury_model.training import curves as picture
    from mercury_model.training.loop import LOG, read_log

    if not (run / LOG).exists():
        raise SettingsError(f"{run} has no log of a run.", "Name the folder given to adapt --out.")
    dependencies.keep_files("matplotlib", surroundings().cache_dir)
    picture.save(out, read_log(run))


@train.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The safetensors file to write.")],
    corpus: Folder = Path("runs/corpus"),
    model: Annotated[str, typer.Option(help="The model the run started from.")] = "mini",
) -> None:
    """Write the trained weights of a run as a delta: int8, a few megabytes."""
    from mercury_model.training.loop import CHECKPOINT
    from mercury_model.training.start import export_delta

    if not (run / CHECKPOINT).exists():
        raise SettingsError(f"{run} has no checkpoint.", "Name the folder given to adapt --out.")
    _require(corpus)
    tokens = export_delta(model, run / CHECKPOINT, corpus, surroundings().cache_dir, out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {tokens} tokens are written")


def _name(package: "Package | None") -> str | None:
    """The text of a progress bar for a package."""
    return None if package is None else f"{package.name} {package.version}"


def _require(corpus: Path) -> None:
    """Raise SettingsError without a corpus."""
    if not (corpus / "train.jsonl").exists():
        raise SettingsError(f"There is no corpus in {corpus}.", "Run: mercury-lsp train data.")


def _line(report: dict[str, Any], steps: int) -> str:
    """One line for a training step."""
    keys = ("step", "loss", "accuracy", "drafted", "rows", "seconds")
    said = "  ".join(f"{key} {report[key]}" for key in keys if key in report)
    if "probe" in report:
        return f"held out: {said}"
    return f"{said}  left {report['seconds'] * (steps - report['step']) / 60:.0f} min"


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Whether the user or the system has asked to stop; the running step is finished first."""
    import signal

    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: asked
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
