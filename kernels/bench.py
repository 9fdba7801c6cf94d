"""Ask a GPU everything: are the kernels right, how fast are they, and a whole step.

`python kernels/bench.py` writes `kernels/results/<chip>.json`, within `--minutes` (8 by default):
first the odd shapes, then whole steps as CUDA graphs, then each operation against PyTorch.
Correctness comes first, and what is wrong gets no time. Without a GPU it writes what the roofline
model says of an H100 and an H200, under the name of a model. Then `python kernels/readme.py`.
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
from dataclasses import asdict
from typing import Any

import torch

from mercury_kernels.agreement import disagreement
from mercury_kernels.architecture import ARCHITECTURES, Architecture
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import OPERATIONS, Operation
from mercury_kernels.dispatch import Operations, select
from mercury_kernels.measure import Budget, Timer, Timing, measure, types
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
from mercury_kernels.rope.cases import rotation
from mercury_kernels.rope.reference import Projection
from mercury_kernels.step import Bucket, GraphedSteps, LayerWeights, Network, Rules, State
from mercury_kernels.weights import LARGEST, Weight
from mercury_kernels.workload import NARROW, PLAIN, Workload, shipped

RESULTS = pathlib.Path(__file__).parent / "results"
SPEEDS = (1109, 2000)
"""Tokens a second: the published figure of Mercury Coder Mini on an H100, and a rounder one."""


class GpuTimer:
    """CUDA events around single runs, the second-level cache flushed before each."""

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
    """What the chip reaches: bytes a second of a copy, FLOPs a second of a large bf16 product."""
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
    """Every small case of every operation in every type, compiled for this chip."""
    wrong: list[str] = []
    checked = 0
    for operation in OPERATIONS:
        for source in operation.sources("cuda"):
            for case in operation.tests:
                if budget.left() < 0.6 * budget.seconds:
                    return {"checked": checked, "wrong": wrong, "complete": False}
                complaint = disagreement(operation, case, source)
                checked += 1
                if complaint:
                    wrong.append(f"{case.name}, {types(source)}: {complaint}")
    return {"checked": checked, "wrong": wrong, "complete": True}


def random_network(shape: Architecture, weights: torch.dtype, positions: int) -> Network:
    """Weights of the right shapes and types, small enough that nothing overflows."""

    def matrix(rows: int, columns: int) -> Weight:
        if weights in LARGEST:
            values = torch.randint(-8, 9, (rows, columns), device="cuda", dtype=torch.int8)
            scale = torch.full((rows,), 0.1 * columns**-0.5, device="cuda")
            return Weight(values.to(weights), scale)
        values = torch.empty(rows, columns, device="cuda", dtype=weights)
        return Weight(values.normal_(std=columns**-0.5))

    ones = torch.ones(shape.width, device="cuda", dtype=torch.bfloat16)
    mixed = shape.heads * shape.head_width
    bias = torch.zeros(shape.qkv_width, device="cuda", dtype=torch.bfloat16)
    layers = tuple(
        LayerWeights(
            attention_norm=ones,
            qkv=matrix(shape.qkv_width, shape.width),
            after=Projection(bias=bias if shape.qkv_bias else None),
            output=matrix(shape.width, mixed),
            mlp_norm=ones,
            gate=matrix(shape.mlp_width, shape.width),
            up=matrix(shape.mlp_width, shape.width),
            down=matrix(shape.width, shape.mlp_width),
        )
        for _ in range(shape.layers)
    )
    embedding = torch.empty(shape.vocabulary, shape.width, device="cuda", dtype=torch.bfloat16)
    return Network(
        embedding=embedding.normal_(),
        layers=layers,
        norm=ones,
        head=matrix(shape.vocabulary, shape.width),
        rotation=rotation(positions, shape.head_width, Source("cuda")),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_width,
        eps=1e-6,
    )


def graphed_step(work: Workload, do: Operations, timer: Timer) -> dict[str, Any]:
    """One step as a graph, and four in one graph, at the context of the workload."""
    pages = -(-(work.context + work.block) // 64)
    bucket = Bucket(work.batch, work.block, pages)
    net = random_network(work.architecture, work.source.weights, work.context + work.block)
    state = State.empty(net, bucket, work.batch * pages, torch.bfloat16)
    order = torch.arange(work.batch * pages, dtype=torch.int32, device="cuda")
    state.caches[0].table.copy_(order.view(work.batch, pages))
    state.start.fill_(work.context)
    state.visible.fill_(work.context + work.block)
    rules = Rules(0, 1, 0, torch.zeros(1, dtype=torch.int32, device="cuda"))
    found = described(work)
    for steps in (1, 4):
        graph = GraphedSteps(net, state, rules, do, steps)
        timing = Timing.of(timer.seconds(graph.start))
        found[f"graph_of_{steps}"] = asdict(timing)
        found[f"seconds_per_step_of_{steps}"] = timing.median / steps
    return found


def workloads() -> Iterator[Workload]:
    """What is timed and modelled, the interactive ones first."""
    for batch in (1, 8, 32):
        for source in (PLAIN, NARROW):
            for architecture in ARCHITECTURES:
                yield Workload(architecture, batch, source=source)


def described(work: Workload) -> dict[str, Any]:
    """The workload in plain values."""
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
    """What the roofline says of every workload."""
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
    """The machine, the versions, the commit."""
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


def ask_model() -> list[pathlib.Path]:
    """Write what the model says, a file a chip."""
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


def ask_gpu(minutes: float) -> list[pathlib.Path]:
    """Write what the GPU says, as far as the time goes; the file is written after every part."""
    budget = Budget.of(minutes * 60, time.monotonic)
    chip = torch.cuda.get_device_name()
    name = f"measured-{_slug(chip)}"
    timer, do = GpuTimer(), select(torch.device("cuda"))
    report: dict[str, Any] = {"kind": "measured", "chip": {"name": chip}, **provenance()}
    report["rates"] = rates(timer)
    report["odd_shapes"] = odd_shapes(budget)
    _write(name, report)
    report["steps"] = []
    for work in workloads():
        if budget.left() < 0.3 * budget.seconds:
            break
        if not report["odd_shapes"]["wrong"]:
            report["steps"].append(graphed_step(work, do, timer))
            _write(name, report)
            torch.cuda.empty_cache()
    report["operations"] = []
    for result in measure(all_shipped(), timer, budget, torch.compile):
        report["operations"].append(asdict(result))
        _write(name, report)
    return [_write(name, report)]


def all_shipped() -> Iterator[tuple[Operation, Case, Source]]:
    """Every shipped case on the GPU, one of each operation in turn, so that a budget is fair."""
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
    """Ask what there is to ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    arguments = parser.parse_args()
    written = ask_gpu(arguments.minutes) if torch.cuda.is_available() else ask_model()
    for path in written:
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
