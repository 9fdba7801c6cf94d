"""Write kernels/README.md from the results of `bench.py` and the limits of the compiler.

`python kernels/tools/readme.py` writes it; with `--check` it exits with 1 if the file is outdated.
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

Triton kernels for one denoising step of a block-diffusion language model on an H100. Each kernel
has a specification in plain torch. This file is written by `python kernels/tools/readme.py`.

| operation | what it does |
|---|---|
{operations}

Each folder of `mercury_kernels/` has `reference.py` (the specification), `kernel.py` (which must
agree with it) and `cases.py` (shapes and tolerances, for the tests, the compiler and the
benchmark). `dispatch.py` selects the kernels or the references for a device, once, when a model
is loaded. `step.py` combines the operations into a step. `passes.py` wraps a step in copies from
and to the host, and `replay.py` captures that as a CUDA graph. Only the `kernel.py` files need
Triton, and only `replay.CudaGraph` needs a GPU. `mercury_model.runtime.cuda.runtime` serves a
model with them: it keeps contexts in shared pages and has one pass for each bucket of batch,
block and context. `mercury_model.runtime.cuda.bulk` runs k steps at once.

How it works:

* A product over few tokens is computed as W · xᵀ, so that the rows of the weight matrix are the
  64 rows of a tensor-core instruction. Small matrices are split over their depth (split-K) until
  every multiprocessor has work. The next operation adds the partial sums in a fixed order, which
  needs no launch and makes results deterministic.
* Attention packs the queries of a block that share a key head into the rows of one tile, reads
  pages of 64 keys, and splits the keys if the batch is too small to fill the chip. One tensor,
  `visible`, has the number of keys of each row. It covers bidirectional blocks, causal chunks,
  canvases with text after the block, and padding. A canvas of up to {longest:,} tokens is one
  block without context. A part of a cached canvas can be run again over the unchanged keys before
  and after it. From {many_queries} queries for each key head on, a program takes 128 of them
  rather than 64, so that keys are read half as often.
* The head never stores logits. Each tile of the vocabulary is reduced to its top tokens and two
  sums. Ranks are exact; ties go to the lowest token id.
* Adapters at masks (gated LoRA) need no launch. Each program of a product also computes the inner
  product of the adapter for its own tokens, zeroes it at rows without a mask, and adds the outer
  product at the end. Attention hides the masks of a block from its tokens, so that these match
  the autoregressive network.
* Weights in fp8 or int8 have a scale for each row and are converted to bf16 in registers: half
  the bytes, the same arithmetic. That suits small batches, whose time goes into reading weights.
  Keys and values in fp8 have a scale for each head of a token. The planner of
  `mercury_model.memory` chooses these dtypes from the free memory of the GPU when a model is
  loaded.
* From {fp8_rows} rows on, a step of a wide network is bound by arithmetic. Then activations are
  quantized to fp8 by row and multiplied with weights in fp8
  (`Network.quantize_activations_from`), at twice the rate, for one more launch before each
  product. After every 128 elements of the depth the sums are added in fp32.
  {fp8_gain}
* A step is one copy to the device, the launches, and a few copies to pinned memory. The last copy
  sets a flag that the host polls.
* The device decides which tokens are committed and which are masked again, by the same rules as
  the host (`mercury_model.decoding.unmasking` and `.sampler`; the random numbers are Philox). A
  policy that needs the divergence from the previous step (`Klass`) takes one more launch for each
  step, which also stores the candidates for the next step. Other policies do not pay for that.

"""

CHECKS = """\
## Checked without a GPU

The interpreter of Triton runs every kernel against its reference at odd shapes, in fp32 and bf16,
with plain and quantized weights and caches (`pytest tests/kernels`; `-m slow` adds whole canvases
and every combination of dtypes from end to end). Every shipped configuration is compiled for
sm_90 and compared with the limits in `tests/kernels/limits.json`: {count} configurations,
{spills} spilled registers (Triton {triton}).

| kernel | configurations | registers, most | shared memory, most | resident programs, fewest | tensor cores |
|---|---|---|---|---|---|
{compiled}

Traces of a step and its passes with fake CUDA tensors show that nothing synchronizes with the device,
that shapes depend on the bucket only, that every step has the same launches, and that no copy from or
to the host blocks. With the references, the CUDA runtime equals the torch runtime up to the rounding
of fp32, for networks with and without adapters (`tests/model/runtime/test_cuda.py`).
"""  # noqa: E501

MODEL = """\
## The time of a step: a model, not a measurement

Bytes and FLOPs are counted from the cases. The expected time assumes {memory:.0%} of the memory
bandwidth and {arithmetic:.0%} of the dense bf16 rate of the data sheet, and {gap:.0f} µs between
the nodes of a graph. The cautious time also assumes that no kernel takes less than {shortest:.0f}
µs. Blocks have 32 tokens after a context of 2,048. The speed of a sequence includes the steps of
a block and one more pass that caches its keys and values. The number of tokens that a step
commits depends on the weights and the text; the last columns show how many are needed.

"""

GOALS = """\
### At batch 1 on an H100: 1,109 and 2,000 tokens a second

1,109 tokens a second is the published speed of Mercury Coder Mini. The ranges are from the
expected to the cautious time of a step. Besides the assumptions above, all rows assume no host
time between steps, a context that is cached already, and no loss of quality from committing more
tokens a step.

"""


CANVAS = """\
### A whole canvas at once on an H100

Networks that fill a canvas, with text before and after its masks, run all of it at every step.
With `renew`, which caches the canvas and runs one block of it (the dual cache of
[Fast-dLLM](https://arxiv.org/abs/2505.22618)), a step takes as long as a block after a context of
the length of the canvas.

"""


def compiled(limits: dict[str, Any]) -> str:
    """One row for each kernel."""
    groups: dict[str, list[dict[str, int]]] = {}
    for name, made in limits["configurations"].items():
        groups.setdefault(name.split("[")[0], []).append(made)
    rows = []
    for kernel, several in sorted(groups.items()):
        worst = [max(made[what] for made in several) for what in ("registers", "shared")]
        resident = min(made["resident_programs"] for made in several)
        cores = "wgmma" if all(made["tensor_core"] for made in several) else "none needed"
        in_fp8 = sum(bool(made["fp8"]) for made in several)
        cores += f", {in_fp8} in fp8" if in_fp8 else ""
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
    """The time of a step over a whole canvas."""
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
    """The modelled speedup of products in fp8, by network and batch."""
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
        f"The model below gives these speedups of a step: {'; '.join(gains)}. With fewer rows, or "
        f"with a hidden size below {FP8_WIDTH:,}, there is little or no gain."
    )
    return textwrap.fill(said, 98).replace("\n", "\n  ")


def reaching(reports: list[dict[str, Any]]) -> str:
    """At batch 1 on an H100: the tokens that a step must commit, and the condition for that.

    The row with the fastest step comes first.
    """
    rows = [row for row in _of_h100(reports)["steps"] if row["batch"] == 1 and _is_block(row)]
    lines = [
        "| model | types | tokens a step for 1,109/s | for 2,000/s | 1,109/s requires |",
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
    """Whether this is a block after a context and no canvas."""
    return bool(row["context"])


def _of_h100(reports: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in reports if each["chip"]["name"] == "H100 SXM")


def _granted(row: dict[str, Any]) -> str:
    """The condition in words, for the lower speed and the cautious time."""
    needed = row["cautious"]["tokens_per_step_for"][SPEEDS[0]]
    if needed is None:
        return "more than one block at once"
    steps = math.floor(row["block"] / max(needed, 1.0))
    plain = "and no loss from fp8 weights" if "fp8" in row["types"] else ""
    return f"{steps} steps for {row['block']} tokens {plain}".strip()


def measured(report: dict[str, Any]) -> str:
    """The measurements of one GPU."""
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
    """The shares of the measured copy bandwidth and bf16 rate of the chip."""
    shares = (
        row["bytes"] / timing["median"] / rates["copy_bytes_per_second"],
        row["flops"] / timing["median"] / rates["bf16_flops_per_second"],
    )
    return " | ".join(f"{share:.0%}" for share in shares)


def served(found: dict[str, Any]) -> list[str]:
    """The wall-clock times of a caller of the runtime."""
    if found["wrong"]:
        return [f"Through the runtime: wrong, and so not timed. {'; '.join(found['wrong'])}."]
    lines = [
        "Through the runtime, host included (random weights commit one token a step; the speeds at "
        "more tokens are computed from the times):",
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
        found = "No GPU has run these kernels yet; `python kernels/tools/bench.py` does.\n\n"
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
    """The first line of the docstring of a folder."""
    lines = (HERE / "mercury_kernels" / folder / "__init__.py").read_text().splitlines()
    return lines[0].strip('"').rstrip(".")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{max(value, 1.0):.1f}"


def _timing(timing: dict[str, float] | None) -> str:
    if timing is None:
        return "-"
    return f"{timing['median'] * 1e6:,.1f} ({timing['p95'] * 1e6:,.1f})"


def main() -> int:
    """Write the file or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    wanted = text()
    if parser.parse_args().check:
        return 0 if README.exists() and README.read_text() == wanted else 1
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
