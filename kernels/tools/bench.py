"""Check and time the kernels on a GPU.

`python kernels/tools/bench.py` writes `kernels/results/measured-<chip>.json` within `--minutes` (8
by default): the agreement at odd shapes, whole steps as CUDA graphs, tokens a second through the
runtime, then each operation beside PyTorch. What disagrees with its reference is not timed. Without
a GPU it writes the roofline model of an H100 and an H200 as `modelled-<chip>.json`. Run
`python kernels/tools/readme.py` afterwards.
"""

# mypy: allow-untyped-calls

import argparse
import json
import pathlib
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

from mercury_kernels.agreement import disagreement
from mercury_kernels.architecture import ARCHITECTURES, FP8_ROWS, LLAMA_8B, MINI, QWEN_7B, QWEN_HALF
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import OPERATIONS, Operation
from mercury_kernels.dispatch import Operations, select
from mercury_kernels.measure import Budget, Timer, Timing, measure, types
from mercury_kernels.paged import PAGE
from mercury_kernels.passes import DenoisingPass, ModelRunner
from mercury_kernels.replay import cuda_graphs
from mercury_kernels.roofline import (
    CAUTIOUS,
    EXPECTED,
    H100,
    H200,
    Chip,
    cost,
    launches,
    seconds,
    tokens_per_second,
    tokens_per_step_for,
)
from mercury_kernels.step import Bucket, TokenConstraints
from mercury_kernels.workload import BF16, FP8, FP8_WEIGHTS, Workload, multiplies_in_fp8, shipped
from mercury_lsp.bench.cuda_runtime import (
    MASK,
    differences,
    random_network,
    through_the_runtime,
)

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SPEEDS = (1109, 2000)
"""Tokens a second: the published speed of Mercury Coder Mini on an H100, and a round number."""

CANVASES_TIMED = (256, 1024)
"""Tokens of a canvas, for the shapes of open canvas models."""


class GpuTimer:
    """Times single runs with CUDA events, flushing the L2 cache before each."""

    def __init__(self, runs: int = 30) -> None:
        self._runs = runs
        self._flush = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")

    def seconds(self, call: Callable[[], object]) -> list[float]:
        """See `Timer`."""
        for _ in range(3):
            call()
        marks = []
        for _ in range(self._runs):
            self._flush.zero_()
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            call()
            ended.record()
            marks.append((began, ended))
        torch.cuda.synchronize()
        return [began.elapsed_time(ended) / 1e3 for began, ended in marks]


def rates(timer: Timer) -> dict[str, float]:
    """The measured rates of the chip: bytes a second of a copy, FLOPs a second in bf16."""
    block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(block)
    copied = Timing.of(timer.seconds(lambda: other.copy_(block)))
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    multiplied = Timing.of(timer.seconds(lambda: a @ b))
    return {
        "copy_bytes_per_second": 2 * block.nbytes / copied.median,
        "bf16_flops_per_second": 2 * side**3 / multiplied.median,
    }


def odd_shapes(budget: Budget) -> dict[str, Any]:
    """Check every small case of every operation with every dtype on this chip."""
    wrong: list[str] = []
    checked = 0
    for operation in OPERATIONS:
        for source in operation.sources("cuda"):
            for case in operation.tests_of(source):
                if budget.left() < 0.6 * budget.seconds:
                    return {"checked": checked, "wrong": wrong, "complete": False}
                complaint = disagreement(operation, case, source)
                checked += 1
                if complaint:
                    wrong.append(f"{case.name}, {types(source)}: {complaint}")
    return {"checked": checked, "wrong": wrong, "complete": True}


def graphed_step(work: Workload, ops: Operations, timer: Timer) -> dict[str, Any]:
    """Time a graph of one step and one of four, after the context of the workload."""
    pages = -(-(work.context + work.block) // PAGE)
    bucket = Bucket(work.batch, work.block, pages)
    net = random_network(work.architecture, work.source.weights, work.context + work.block, "cuda")
    if work.source.row_dtype is not None:
        net = replace(net, quantize_activations_from=FP8_ROWS)
    page_pool = net.empty_pages(work.batch * pages, torch.bfloat16)
    runner = ModelRunner(net, ops, cuda_graphs())
    constraints = TokenConstraints(
        MASK, 1, 0, torch.tensor([MASK], dtype=torch.int32, device="cuda")
    )
    found = described(work)
    for steps in (1, 4):
        denoising = DenoisingPass(runner, bucket, page_pool, constraints, steps)
        inputs = denoising.inputs
        inputs.ids.fill_(MASK)
        inputs.start.fill_(work.context)
        inputs.visible.fill_(work.context + work.block)
        page_ids = torch.arange(work.batch * pages, dtype=torch.int32)
        inputs.table.copy_(page_ids.view(work.batch, pages))
        timing = Timing.of(timer.seconds(denoising.start))
        found[f"graph_of_{steps}"] = asdict(timing)
        found[f"seconds_per_step_of_{steps}"] = timing.median / steps
    return found


def served(ops: Operations, budget: Budget) -> dict[str, Any]:
    """Tokens a second of a caller of the runtime; no times if the runtime is wrong."""
    off = differences(ops, cuda_graphs(), "cuda")
    wrong = [f"{name}: off by {error:.4f}" for name, error in off.items() if not error <= 0.03]
    rows: list[dict[str, Any]] = []
    for architecture in () if wrong else (MINI, QWEN_HALF):
        for source in (BF16, FP8_WEIGHTS):
            for batch in (1, 8):
                if budget.left() < 0.25 * budget.seconds:
                    return {"wrong": wrong, "rows": rows, "complete": False}
                work = Workload(architecture, batch, source=source)
                net = random_network(architecture, source.weights, 8192, "cuda")
                runner = ModelRunner(net, ops, cuda_graphs())
                found = through_the_runtime(work, runner, time.perf_counter)
                rows.append({**described(work), **found})
                torch.cuda.empty_cache()
    return {"wrong": wrong, "rows": rows, "complete": True}


def workloads() -> Iterator[Workload]:
    """The workloads that are timed and modelled, interactive ones first, canvases last."""
    for batch in (1, 8, 32):
        for source in (BF16, FP8_WEIGHTS):
            for architecture in ARCHITECTURES:
                yield Workload(architecture, batch, source=source)
        for architecture in ARCHITECTURES:
            work = Workload(architecture, batch, source=FP8)
            if multiplies_in_fp8(architecture, work.rows):
                yield work
    for length in CANVASES_TIMED:
        for source in (BF16, FP8):
            for architecture in (QWEN_HALF, QWEN_7B, LLAMA_8B):
                if source is BF16 or multiplies_in_fp8(architecture, length):
                    yield Workload(architecture, 1, length, context=0, source=source)


def described(work: Workload) -> dict[str, Any]:
    """The workload as JSON values."""
    total = cost(work)
    return {
        "model": work.architecture.name,
        "types": types(work.source),
        "batch": work.batch,
        "block": work.block,
        "context": work.context,
        "bytes": total.bytes,
        "flops": total.flops,
        "launches": launches(work),
    }


def modelled(chip: Chip) -> list[dict[str, Any]]:
    """The roofline model of every workload."""
    rows = []
    for work in workloads():
        row = described(work)
        for name, assumed in (("expected", EXPECTED), ("cautious", CAUTIOUS)):
            step = seconds(work, chip, assumed)
            row[name] = {
                "seconds_per_step": step,
                "tokens_per_second": {n: tokens_per_second(work, step, n) for n in (1, 2, 4, 8)},
                "tokens_per_step_for": {
                    speed: tokens_per_step_for(work, step, speed) for speed in SPEEDS
                },
            }
        rows.append(row)
    return rows


def provenance() -> dict[str, Any]:
    """The versions, the commit and the date."""
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _triton_version(),
        "commit": done.stdout.strip(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return str(triton.__version__)


def model_chips() -> list[pathlib.Path]:
    """Write the roofline model, one file for each chip."""
    written = []
    for chip in (H100, H200):
        report = {
            "kind": "modelled",
            "chip": asdict(chip),
            "assumed": {"expected": asdict(EXPECTED), "cautious": asdict(CAUTIOUS)},
            "steps": modelled(chip),
        }
        written.append(_write(f"modelled-{_slug(chip.name)}", report))
    return written


def measure_gpu(minutes: float) -> list[pathlib.Path]:
    """Measure until the time is up; the file is written after every part."""
    budget = Budget.of(minutes * 60, time.monotonic)
    chip = torch.cuda.get_device_name()
    name = f"measured-{_slug(chip)}"
    timer, ops = GpuTimer(), select(torch.device("cuda"))
    report: dict[str, Any] = {"kind": "measured", "chip": {"name": chip}, **provenance()}
    report["rates"] = rates(timer)
    report["odd_shapes"] = odd_shapes(budget)
    _write(name, report)
    report["steps"] = []
    for work in workloads():
        if budget.left() < 0.3 * budget.seconds:
            break
        if not report["odd_shapes"]["wrong"]:
            report["steps"].append(graphed_step(work, ops, timer))
            _write(name, report)
            torch.cuda.empty_cache()
    report["served"] = served(ops, budget)
    _write(name, report)
    report["operations"] = []
    for result in measure(all_shipped(), timer, budget, torch.compile):
        report["operations"].append(asdict(result))
        _write(name, report)
    return [_write(name, report)]


def all_shipped() -> Iterator[tuple[Operation, Case, Source]]:
    """Every shipped case on the GPU, one of each operation in turn, to share the budget."""
    waiting = [(operation, shipped(operation, "cuda")) for operation in OPERATIONS]
    while waiting:
        for operation, cases in list(waiting):
            found = next(cases, None)
            if found is None:
                waiting.remove((operation, cases))
            else:
                yield operation, *found


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _write(name: str, report: dict[str, Any]) -> pathlib.Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def main() -> None:
    """Measure a GPU if there is one, otherwise write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    arguments = parser.parse_args()
    written = measure_gpu(arguments.minutes) if torch.cuda.is_available() else model_chips()
    for path in written:
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
