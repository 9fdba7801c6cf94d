"""`mercury-lsp eval`: its options and its output."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercury_lsp.config import Config, surroundings
from mercury_lsp.core.similar import DOCUMENTS
from mercury_lsp.errors import SettingsError

if TYPE_CHECKING:
    from mercury_lsp.evaluation.cases import Case
    from mercury_lsp.evaluation.measure import Outcome
    from mercury_model.load import LoadedModel

OTHERS = ("javascript", "typescript", "cpp", "php", "rust", "go", "java", "shellscript")
SEED = 7


def evaluate(  # noqa: PLR0913  the options are what the command is
    model: Annotated[str, typer.Option(help="The model to evaluate.")] = "mini",
    delta: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Weights to add that are not in the table yet."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="autoregressive, verified, diffusion at a dial from 0 to 1, or with a policy:"
            " threshold:P, entropy:NATS, klass:P, top:COUNT, linear:STEPS, log-linear:STEPS,"
            " cosine:STEPS, each with ,remask:P to mask weak tokens again;"
            " ,alone without lookup elsewhere. Repeatable."
        ),
    ] = None,
    python: Annotated[int, typer.Option(min=0, help="The number of gaps in Python.")] = 1_000,
    others: Annotated[
        int, typer.Option(min=0, help="The number of gaps in each other language.")
    ] = 100,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Fill only this many gaps, spread over all of them.")
    ] = None,
    open_files: Annotated[
        int,
        typer.Option("--open", min=0, max=DOCUMENTS, help="The number of other open files."),
    ] = 0,
    corpus: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where `train data` put the held-out code.")
    ] = Path("runs/corpus"),
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every completion here, as JSON lines."),
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the reliability as PNG.")
    ] = None,
    pareto_file: Annotated[
        Path | None,
        typer.Option("--pareto", metavar="FILE", help="Draw quality against steps as PNG."),
    ] = None,
) -> None:
    """Measure how often completions of held-out code are right, and how well the model knows it."""
    from mercury_lsp.evaluation import measure, report
    from mercury_lsp.evaluation.settings import sampling
    from mercury_lsp.service import ModelService, ModelSettings

    samplings = {
        name: sampling(name) for name in setting or ("autoregressive", "verified", "0", "0.5")
    }
    cases = held_out(corpus, python, others, limit, open_files)
    deltas = tuple(delta or ())
    with ModelService(lambda name, threads: load_with(name, deltas, threads)) as service:
        info = service.load(ModelSettings(model, threads)).result()
        assert info is not None
        filled = list(_watched(measure.fill(service, cases, samplings, time.perf_counter)))
    runs = {name: [outcomes[name] for outcomes in filled] for name in samplings}
    figures = {
        "command": _command(model, delta or (), list(samplings), open_files, len(cases)),
        **_where(info.runtime),
        **report.document(cases, runs),
    }
    for name, values in figures["settings"].items():
        typer.echo(_line(name, values))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if texts:
        _write_texts(texts, cases, runs)
    if plot_file or pareto_file:
        from mercury_lsp.evaluation import plot

        if plot_file:
            plot.reliability(plot_file, figures["settings"])
        if pareto_file:
            plot.pareto(pareto_file, figures["settings"])


def held_out(
    corpus: Path, python: int, others: int, limit: int | None, open_files: int = 0
) -> "list[Case]":
    """The cases, the same for the same counts. Raises SettingsError without a corpus."""
    from mercury_lsp.evaluation.cases import draw
    from mercury_model.training.data import read
    from mercury_model.training.feed import by_language
    from mercury_model.training.start import HELD_OUT

    if not (corpus / HELD_OUT).exists():
        raise SettingsError(f"There is no corpus in {corpus}.", "Run: mercury-lsp train data.")
    counts = {"python": python, **dict.fromkeys(OTHERS, others)}
    cases = draw(by_language(read(corpus / HELD_OUT)), counts, SEED, open_files)
    if not cases:
        raise SettingsError("There is nothing to fill.", "Ask for more with --python or --others.")
    if limit is None or limit >= len(cases):
        return cases
    return [cases[i * len(cases) // limit] for i in range(limit)]


def load_with(model: str, deltas: Sequence[Path], threads: int) -> "LoadedModel":
    """A known model with further deltas on top. Raises WeightsMissing or another ModelError."""
    from mercury_model.load import LoadedModel, load
    from mercury_model.weights import checkpoint, registry

    cache = surroundings().cache_dir
    loaded = load(model, cache_dir=cache, threads=threads)
    if not deltas:
        return loaded
    from mercury_model.network.denoiser import load_denoiser
    from mercury_model.runtime.torch import TorchRuntime

    base = registry.merged(registry.find(model), cache)
    weights = checkpoint.merge(base, [checkpoint.read_delta(path) for path in deltas])
    network = load_denoiser(loaded.card.architecture, weights, loaded.card.infill.mask_id)
    runtime = TorchRuntime(network, threads=threads)
    return LoadedModel(loaded.card, loaded.tokenizer, runtime)


def _watched(filled: "Iterator[dict[str, Outcome]]") -> "Iterator[dict[str, Outcome]]":
    right: Counter[str] = Counter()
    for count, outcomes in enumerate(filled, 1):
        right.update(name for name, outcome in outcomes.items() if outcome.exact)
        if count % 50 == 0:
            shares = ", ".join(f"{name} {right[name] / count:.1%}" for name in outcomes)
            typer.echo(f"{count} filled; exact: {shares}", err=True)
        yield outcomes


def _command(
    model: str, deltas: Sequence[Path], settings: Sequence[str], open_files: int, count: int
) -> str:
    parts = [f"--model {model}", *(f"--delta {path}" for path in deltas)]
    parts += [f"--setting {name}" for name in settings]
    parts += [f"--open {open_files}"] if open_files else []
    return f"mercury-lsp eval {' '.join(parts)}  # {count} gaps"


def _where(runtime: str) -> dict[str, Any]:
    from mercury_lsp import machine

    return {
        "commit": machine.commit(),
        "runtime": runtime,
        "machine": asdict(machine.describe()),
        "versions": machine.versions(),
        "seed": SEED,
    }


def _line(name: str, values: dict[str, Any]) -> str:
    single, python = values["single_line"]["exact"], values["single_line_python"]["exact"]
    offered = values["single_line"]["offered"]
    default = next(row for row in offered if row["distraction"] == Config().distraction)
    return (
        f"{name:>16}: exact {values['all']['exact']['mean']:.1%}, single line {single['mean']:.1%}"
        f" [{single['low']:.1%}, {single['high']:.1%}], in Python {python['mean']:.1%};"
        f" {values['tokens_per_step']:.2f} tokens a step,"
        f" {values['tokens_per_second']:.0f} a second;"
        f" {default['shown']:.0%} of single lines offered, {default['right']['mean']:.0%} right"
    )


def _write_texts(path: Path, cases: "Sequence[Case]", runs: "dict[str, list[Outcome]]") -> None:
    with path.open("w", encoding="utf-8") as handle:
        for i, case in enumerate(cases):
            row: dict[str, Any] = {"kind": case.kind, "language": case.language, "path": case.path}
            row |= {"before": case.before[-80:], "truth": case.truth}
            row |= {name: asdict(outcomes[i]) for name, outcomes in runs.items()}
            handle.write(json.dumps(row) + "\n")
