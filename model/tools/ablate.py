"""What each choice of the adaptation is worth: short runs from the same start, one choice changed.

`mercury-lsp train data`, then `python model/tools/ablate.py`. Every run starts from mini's first
delta with adapters that are zero, and is probed on the same held-out examples, laid out as they
usually are whatever is changed. Two runs that differ in their seed alone tell what differences mean
nothing. `model/results/ablations.json` has the runs; one that is there already is not done again.
Prints the table of model/README.md.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mercury_lsp.bench.mini import options, origin
from mercury_lsp.config import surroundings
from mercury_model.training.adapt import AdapterConfig, AdapterTrainer
from mercury_model.training.collate import Blocks
from mercury_model.training.feed import ExampleFeed
from mercury_model.training.network import FrozenNetwork
from mercury_model.training.start import prepare

RESULTS = Path(__file__).parents[1] / "results"
FOUND = RESULTS / "ablations.json"
USUAL = AdapterConfig()


@dataclass(frozen=True, slots=True)
class Variant:
    """What a run does differently from the usual plan and blocks."""

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
    frozen, (trained, held_out) = ready.run.network.frozen, ready.feeds
    settings = {name: getattr(given, name) for name in ("steps", "examples", "probe")}
    report = {
        **settings,
        "threads": given.threads,
        **origin(),
        "untrained": AdapterTrainer(frozen, usual).probe(held_out, given.probe),
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
        feed = replace(trained, blocks=Blocks(**variant.blocks), seed=str(plan.seed))
        report["runs"][variant.name] = ran(frozen, plan, feed, held_out, given.probe)
        given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.stdout.write(table(report))


def ran(
    frozen: FrozenNetwork,
    plan: AdapterConfig,
    feed: ExampleFeed,
    held_out: ExampleFeed,
    examples: int,
) -> dict[str, Any]:
    """What a run from nothing comes to, after how many positions, and how much of it learns."""
    run, rows = AdapterTrainer(frozen, plan), 0
    while run.step < plan.steps:
        logged = run.advance(feed)
        rows += int(str(logged["rows"]))
        sys.stderr.write(f"\r{run.step}/{plan.steps} ")
    return {
        **run.probe(held_out, examples),
        "positions": rows,
        "parameters": sum(parameter.numel() for parameter in run.network.parameters()),
    }


def table(report: dict[str, Any]) -> str:
    """A line for each run: what the probe found, and how many parameters learnt."""
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
