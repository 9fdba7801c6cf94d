"""Ablate the adaptation of mini: short runs from the same start, each with one choice changed.

Run `mercury-lsp train data`, then `python model/tools/ablate.py`. Every run starts from the first
delta of mini with adapters of zero, and is probed on the same held-out examples in the usual
layout. Two runs that differ only in their seed show the size of a difference by chance. The runs
go to `model/results/ablations.json`; runs that it has already are skipped. Prints the table of
model/README.md.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mercury_lsp.bench.mini import options, origin
from mercury_lsp.config import surroundings
from mercury_model.network.denoiser import Denoiser
from mercury_model.training.adaptation import Adaptation, AdapterConfig, adaptation_trainer
from mercury_model.training.collate import Blocks, Packed
from mercury_model.training.feed import ExampleFeed
from mercury_model.training.start import prepare

RESULTS = Path(__file__).parents[1] / "results"
FOUND = RESULTS / "ablations.json"
USUAL = AdapterConfig()


@dataclass(frozen=True, slots=True)
class Variant:
    """The settings of a run that differ from the usual ones."""

    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    blocks: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("as it is"),
    Variant("other examples", {"seed": 2}),
    Variant(
        "twice the rates",
        {"plain_rate": 2 * USUAL.plain_rate, "gated_rate": 2 * USUAL.gated_rate},
    ),
    Variant(
        "twice the ranks",
        {"plain_rank": 2 * USUAL.plain_rank, "gated_rank": 2 * USUAL.gated_rank},
    ),
    Variant("adapters in all 30 layers", {"first_layer": 0}),
    Variant("masks learn the truth alone", {"truth_share": 1.0}),
    Variant("masks learn from the other head alone", {"truth_share": 0.0}),
    Variant("masks far from the context count as much", blocks={"decay": 1.0}),
    Variant("blocks of 4 to 7 masks", blocks={"shortest": 4, "longest": 7}),
    Variant("no blocks in the prefix", blocks={"on_chain": 0}),
)


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--examples", type=int, default=3, help="examples a step")
    parser.add_argument("--probe", type=int, default=40, help="held-out examples")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    usual = replace(USUAL, steps=given.steps, examples=given.examples)
    ready = prepare("mini", usual, given.corpus, surroundings().cache_dir, torch.device("cpu"))
    network, held_out = ready.trainer.network, ready.held_out.batch(0, given.probe)
    settings = {name: getattr(given, name) for name in ("steps", "examples", "probe")}
    report = {
        **settings,
        "threads": given.threads,
        **origin(),
        "untrained": ready.trainer.evaluate(held_out),
        "runs": {},
    }
    if given.output.exists():
        before = json.loads(given.output.read_text("utf-8"))
        if any(before[name] != value for name, value in settings.items()):
            sys.exit(f"{given.output} has runs of other settings; choose another --output.")
        report["runs"] = before["runs"]
    for variant in VARIANTS:
        if variant.name in report["runs"]:
            continue
        plan = replace(usual, **variant.plan)
        feed = replace(ready.feed, blocks=Blocks(**variant.blocks), seed=str(plan.seed))
        report["runs"][variant.name] = ran(network, plan, feed, held_out)
        given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.stdout.write(table(report))


def ran(
    network: Denoiser,
    plan: AdapterConfig,
    feed: ExampleFeed,
    held_out: Sequence[Packed],
) -> dict[str, Any]:
    """The probe of a run from new adapters, its positions and its trained parameters."""
    objective, rows = Adaptation.of(network, plan), 0
    trainer = adaptation_trainer(network, objective, plan, feed)
    for report in trainer.steps():
        rows += int(str(report["rows"]))
        sys.stderr.write(f"\r{trainer.step}/{plan.steps} ")
    learnt = [*objective.plain.parameters(), *objective.gated.parameters()]
    return {
        **trainer.evaluate(held_out),
        "positions": rows,
        "parameters": sum(parameter.numel() for parameter in learnt),
    }


def table(report: dict[str, Any]) -> str:
    """One line for each run: its probe, and its number of trained parameters."""
    lines = [
        "| changed | loss | next token right | first draft right | drafts right in a row "
        "| parameters |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in {"nothing learnt yet": report["untrained"], **report["runs"]}.items():
        millions = f"{run['parameters'] / 1e6:.1f} M" if "parameters" in run else ""
        lines.append(
            f"| {name} | {run['loss']:.3f} | {100 * run['accuracy']:.1f} % "
            f"| {100 * run['agreement'][0]:.1f} % | {run['drafted']:.3f} | {millions} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
