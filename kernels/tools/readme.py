"""Write kernels/README.md from the results of `bench.py` and the compiler's limits.

`python kernels/tools/readme.py` rewrites it; `--check` says whether that would change anything.
"""

import argparse
import json
import math
import pathlib
import sys
import textwrap
from typing import Any

from mercury_kernels.architecture import FP8_ROWS, FP8_WIDTH
from mercury_kernels.catalogue import OPERATIONS
from mercury_kernels.step import CANVASES
from mercury_kernels.tile import MANY_QUERIES

HERE = pathlib.Path(__file__).parents[1]
README = HERE / "README.md"
RESULTS = HERE / "results"
LIMITS = HERE.parent / "tests" / "kernels" / "limits.json"
SPEEDS = ("1109", "2000")

HEAD = """\
# Kernels

Triton kernels for one denoise step of a block-diffusion language model on an H100, each with its
specification in plain torch. This file is written by `python kernels/tools/readme.py`.

| operation | what it does |
|---|---|
{operations}

Each folder of `mercury_kernels/` has `reference.py` (what the operation means), `kernel.py` (must
agree), `cases.py` (shapes and tolerances, for the tests, the compiler and the bench alike).
`dispatch.py` decides once, at load, whether a device gets the kernels or the reference; `step.py`
puts the operations together; `passes.py` is what the host asks of a step, numbers in and numbers
out, which `replay.py` captures as a CUDA graph. Nothing but a `kernel.py` needs Triton, nothing but
`replay.CudaGraph` a GPU. `mercury_model.runtime.cuda.runtime` serves a model through them:
contexts in shared pages, a pass for each bucket of batch, block and context, k steps at once in
`mercury_model.runtime.cuda.bulk`.

How the pieces fit:

* A product over few tokens is computed as W · xᵀ, so that the weights' rows are the 64 that a
  tensor-core instruction wants. Small matrices are split over their depth until every
  multiprocessor has a share; the partial sums are added by the operation that comes next, in a
  fixed order, which costs no launch and keeps results the same from run to run.
* Attention packs the queries of a block that share a key head into rows of one tile, reads pages
  of 64 keys, and splits the context where the batch is too small to fill the chip. One tensor,
  `visible`, says who sees what: blocks that see themselves both ways, causal chunks, canvases with
  text after the block, padding. A canvas of up to {longest:,} tokens is one block after no context;
  one that is kept can be run again in part, over keys before and behind that stay as they were;
  from {many_queries} queries of a key head on, a program takes 128 of them rather than 64, and keys
  are read half as often.
* The head never stores logits. A tile of the vocabulary leaves its best tokens and two sums; ranks
  are exact, ties go to the lowest token.
* Adapters that act at masks cost no launch. Each program of a product computes the inner half for
  its own tokens beside its share, zeroes it where no mask stands, and adds the outer half at the
  end. Attention hides the masks of a block from its tokens, which so stay the autoregressive
  network's.
* Weights in fp8 or int8 have a scale a row and are widened to bf16 in registers: half the bytes,
  the same arithmetic. That is what a small batch wants, whose time goes into reading weights.
  Keys and values in fp8 have a scale for each head of a token. How weights and contexts are kept is
  what the planner of `mercury_model.memory` chooses for the GPU's free memory when a model is
  loaded.
* From {fp8_rows} rows of a step on arithmetic is what takes time in wide networks, and weights in
  fp8 are multiplied by rows in fp8, each scaled by its largest number
  (`Network.quantize_activations_from`): twice the rate, for a launch more before each product.
  Every 128 numbers of the depth the sums are added to others in fp32.
  {fp8_gain}
* A step is one copy to the device, the launches, and a few copies into pinned memory, the last of
  which raises a flag that the host polls.
* Which tokens are settled, and which are opened again, is decided on the device by the same rules
  as on the host (`mercury_model.decoding.unmasking` and `.sampler`; the random numbers are Philox).
  A policy that asks how far predictions moved since the step before (`Klass`) takes a launch more a
  step, which also keeps the candidates for the next; what other policies launch is as without it.

"""

CHECKS = """\
## Proved without a GPU

Every kernel is run by Triton's interpreter against its reference at odd shapes, in fp32 and bf16,
with plain and narrow weights and caches (`pytest tests/kernels`; whole canvases and every way to
keep weights and contexts, from end to end, with `-m slow`). Every shipped configuration is
compiled for sm_90 and held to the limits in `tests/kernels/limits.json`: {count} configurations,
{spills} spilled registers (Triton {triton}).

| kernel | configurations | registers, most | shared memory, most | resident programs, fewest | tensor cores |
|---|---|---|---|---|---|
{compiled}

A step and the passes over it, traced with fake CUDA tensors, show that nothing waits for the
device, that shapes depend on the bucket alone, that every step launches the same list, and that no
copy to or from the host waits. Over the reference the runtime is the torch runtime, to the last
rounding of fp32, for plain and adapted networks (`tests/model/runtime/test_cuda.py`).
"""  # noqa: E501

MODEL = """\
## What a step should take: a model, not a measurement

Bytes and FLOPs are counted from the cases; the expected time assumes {memory:.0%} of the memory
bandwidth and {arithmetic:.0%} of the dense bf16 rate from the data sheet and {gap:.0f} µs between
the nodes of a graph; the cautious one also that no kernel takes less than {shortest:.0f} µs. Blocks
of 32 tokens after a context of 2,048. A sequence's speed counts, besides the steps of a block, one
more pass that keeps its keys and values. How many tokens a step settles depends on the weights and
the text; the last columns say how many are needed.

"""

GOALS = """\
### At batch 1 on an H100: 1,109 and 2,000 tokens a second

1,109 tokens a second is what was published of Mercury Coder Mini. From the expected to the cautious
time of a step. All take for granted, besides the assumptions above, no time on the host between
steps, a context that is there already, and text as good as with fewer tokens a step.

"""


CANVAS = """\
### A whole canvas at once on an H100

Networks that fill a canvas, text before and after its masks, run all of it at every step. Where
`renew` keeps the canvas and runs a block of it alone (the dual cache of
[Fast-dLLM](https://arxiv.org/abs/2505.22618)), a step costs what such a block costs after a context
of the canvas's length.

"""


def compiled(limits: dict[str, Any]) -> str:
    """One row a kernel."""
    groups: dict[str, list[dict[str, int]]] = {}
    for name, made in limits["configurations"].items():
        groups.setdefault(name.split("[")[0], []).append(made)
    rows = []
    for kernel, several in sorted(groups.items()):
        worst = [max(made[what] for made in several) for what in ("registers", "shared")]
        resident = min(made["resident_programs"] for made in several)
        cores = "wgmma" if all(made["tensor_core"] for made in several) else "none needed"
        narrow = sum(bool(made["fp8"]) for made in several)
        cores += f", {narrow} in fp8" if narrow else ""
        rows.append(
            f"| `{kernel}` | {len(several)} | {worst[0]} | {worst[1] / 1024:.0f} KiB "
            f"| {resident} | {cores} |"
        )
    return "\n".join(rows)


def modelled(report: dict[str, Any]) -> str:
    """The table of one chip."""
    lines = [
        f"### {report['chip']['name']} (modelled)",
        "",
        "| model | types | batch | GB a step | launches | µs a step, expected (cautious) "
        "| tokens/s of a sequence at 2, 4, 8 tokens a step | tokens a step for 1,109/s (cautious) "
        "| for 2,000/s (cautious) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in filter(_is_block, report["steps"]):
        expected, cautious = row["expected"], row["cautious"]
        speeds = ", ".join(f"{expected['tokens_per_second'][n]:,.0f}" for n in ("2", "4", "8"))
        needed = " | ".join(
            f"{_number(expected['tokens_per_step_for'][speed])} "
            f"({_number(cautious['tokens_per_step_for'][speed])})"
            for speed in SPEEDS
        )
        lines.append(
            f"| {row['model']} | {row['types']} | {row['batch']} | {row['bytes'] / 1e9:.2f} "
            f"| {row['launches']} | {expected['seconds_per_step'] * 1e6:,.0f} "
            f"({cautious['seconds_per_step'] * 1e6:,.0f}) | {speeds} | {needed} |"
        )
    return "\n".join(lines) + "\n"


def canvases(report: dict[str, Any]) -> str:
    """What a step takes over a whole canvas."""
    lines = [
        "| model | types | canvas | TFLOP a step | µs a step, expected (cautious) |",
        "|---|---|---|---|---|",
    ]
    for row in report["steps"]:
        if not row["context"]:
            expected, cautious = (
                f"{row[assumed]['seconds_per_step'] * 1e6:,.0f}"
                for assumed in ("expected", "cautious")
            )
            lines.append(
                f"| {row['model']} | {row['types']} | {row['block']:,} "
                f"| {row['flops'] / 1e12:.2f} | {expected} ({cautious}) |"
            )
    return "\n".join(lines) + "\n"


def fp8_gain(report: dict[str, Any]) -> str:
    """What the model says that multiplying in fp8 is worth, by network and batch."""
    times = {
        (row["model"], row["batch"], row["types"]): row["expected"]["seconds_per_step"]
        for row in filter(_is_block, report["steps"])
    }
    gains = [
        f"{model} {times[model, batch, 'bf16, fp8 weights'] / after:.2f} times at batch {batch}"
        for (model, batch, types), after in times.items()
        if types == "bf16, fp8 weights, fp8 rows"
    ]
    said = (
        f"By the model below a step is faster so: {'; '.join(gains)}. With fewer rows, or below a "
        f"width of {FP8_WIDTH:,}, it would hardly be, or slower."
    )
    return textwrap.fill(said, 98).replace("\n", "\n  ")


def reaching(reports: list[dict[str, Any]]) -> str:
    """At batch 1 on an H100: what each network must settle a step, and what that takes for granted;
    the quickest step first.
    """
    rows = [row for row in _of_h100(reports)["steps"] if row["batch"] == 1 and _is_block(row)]
    lines = [
        "| model | types | tokens a step for 1,109/s | for 2,000/s | 1,109/s takes for granted |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["expected"]["seconds_per_step"]):
        expected, cautious = row["expected"], row["cautious"]
        cells = [
            f"{_number(expected['tokens_per_step_for'][speed])} to "
            f"{_number(cautious['tokens_per_step_for'][speed])}"
            for speed in SPEEDS
        ]
        lines.append(f"| {row['model']} | {row['types']} | {' | '.join(cells)} | {_granted(row)} |")
    return "\n".join(lines) + "\n"


def _is_block(row: dict[str, Any]) -> bool:
    """A block after a context, and not a canvas."""
    return bool(row["context"])


def _of_h100(reports: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in reports if each["chip"]["name"] == "H100 SXM")


def _granted(row: dict[str, Any]) -> str:
    """The condition in words, for the slower of the two speeds and the cautious time."""
    needed = row["cautious"]["tokens_per_step_for"][SPEEDS[0]]
    if needed is None:
        return "more than a block at once"
    steps = math.floor(row["block"] / max(needed, 1.0))
    plain = "and that rounding weights to fp8 does no harm" if "fp8" in row["types"] else ""
    return f"{steps} steps for {row['block']} tokens {plain}".strip()


def measured(report: dict[str, Any]) -> str:
    """What a GPU said."""
    rates, odd = report["rates"], report["odd_shapes"]
    lines = [
        f"### {report['chip']['name']} (measured {report['date']})",
        "",
        f"Commit {report['commit']}, torch {report['torch']}, Triton {report['triton']}. "
        f"Copies {rates['copy_bytes_per_second'] / 1e12:.2f} TB/s, multiplies "
        f"{rates['bf16_flops_per_second'] / 1e12:.0f} TFLOP/s in bf16. "
        f"Odd shapes: {odd['checked']} checked, {len(odd['wrong'])} wrong.",
        "",
        "| model | types | batch × block | µs a step, median (p95) "
        "| of the copy bandwidth | of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["steps"]:
        once = row["graph_of_1"]
        lines.append(
            f"| {row['model']} | {row['types']} | {row['batch']} × {row['block']} "
            f"| {once['median'] * 1e6:,.0f} ({once['p95'] * 1e6:,.0f}) "
            f"| {_reached(row, once, rates)} |"
        )
    lines += ["", *served(report["served"])]
    lines += [
        "",
        "| operation | case | types | µs, median (p95) | of the copy bandwidth "
        "| of the matrix rate | eager | compiled | FlashAttention |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["operations"]:
        cells = [row["wrong"] or _timing(row["kernel"])]
        cells.append("- | -" if row["wrong"] else _reached(row, row["kernel"], rates))
        cells += [_timing(row["others"].get(name)) for name in ("eager", "compiled", "flash")]
        lines.append(
            f"| {row['operation']} | {row['case']} | {row['types']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _reached(row: dict[str, Any], timing: dict[str, float], rates: dict[str, float]) -> str:
    """The shares of what the chip was measured to reach: bytes a second, and FLOPs in bf16."""
    shares = (
        row["bytes"] / timing["median"] / rates["copy_bytes_per_second"],
        row["flops"] / timing["median"] / rates["bf16_flops_per_second"],
    )
    return " | ".join(f"{share:.0%}" for share in shares)


def served(found: dict[str, Any]) -> list[str]:
    """What a caller of the runtime has, by the wall clock."""
    if found["wrong"]:
        return [f"Through the runtime: wrong, so not timed. {'; '.join(found['wrong'])}."]
    lines = [
        "Through the runtime, host and all (random weights settle one token a step; more follow "
        "from the times):",
        "",
        "| model | types | batch | µs a step, one at a time | µs a step, four at once "
        "| µs for 64 tokens of context | tokens/s at 1, 2, 4, 8 tokens a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        times = [
            f"{row[name] * 1e6:,.0f}"
            for name in (
                "interactive_step_seconds",
                "bulk_step_seconds",
                "context_chunk_seconds",
            )
        ]
        speeds = ", ".join(f"{row['tokens_per_second'][n]:,.0f}" for n in ("1", "2", "4", "8"))
        lines.append(
            f"| {row['model']} | {row['types']} | {row['batch']} | {' | '.join(times)} | {speeds} |"
        )
    return lines


def text() -> str:
    """The whole file."""
    reports = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    limits = json.loads(LIMITS.read_text())
    rows = [f"| `{each.name}` | {_summary(each.folder)} |" for each in OPERATIONS]
    made = limits["configurations"].values()
    checks = CHECKS.format(
        count=len(made),
        spills=sum(each["spills"] for each in made),
        triton=limits["triton"],
        compiled=compiled(limits),
    )
    real = [report for report in reports if report["kind"] == "measured"]
    found = "".join(f"{measured(report)}\n" for report in real)
    if not real:
        found = "No GPU has run these kernels yet: `python kernels/tools/bench.py` asks one.\n\n"
    theory = [report for report in reports if report["kind"] == "modelled"]
    assumed = theory[0]["assumed"]
    model = MODEL.format(
        memory=assumed["expected"]["memory"],
        arithmetic=assumed["expected"]["arithmetic"],
        gap=assumed["expected"]["gap_seconds"] * 1e6,
        shortest=assumed["cautious"]["shortest_seconds"] * 1e6,
    )
    tables = "\n".join(modelled(report) for report in theory)
    head = HEAD.format(
        operations="\n".join(rows),
        longest=CANVASES[-1],
        many_queries=MANY_QUERIES + 1,
        fp8_rows=FP8_ROWS,
        fp8_gain=fp8_gain(theory[0]),
    )
    goals = f"{GOALS}{reaching(theory)}\n{CANVAS}{canvases(_of_h100(theory))}\n"
    return f"{head}{checks}\n## Measured\n\n{found}{model}{goals}{tables}"


def _summary(folder: str) -> str:
    """The first line of the folder's docstring."""
    lines = (HERE / "mercury_kernels" / folder / "__init__.py").read_text().splitlines()
    return lines[0].strip('"').rstrip(".")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{max(value, 1.0):.1f}"


def _timing(timing: dict[str, float] | None) -> str:
    if timing is None:
        return "-"
    return f"{timing['median'] * 1e6:,.1f} ({timing['p95'] * 1e6:,.1f})"


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    wanted = text()
    if parser.parse_args().check:
        return 0 if README.exists() and README.read_text() == wanted else 1
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
