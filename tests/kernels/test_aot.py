"""What the compiler makes of the shipped configurations for sm_90, without a GPU.

In a process of its own: within the interpreter nothing compiles. `limits.json` is written by
`python kernels/tools/aot.py --write tests/kernels/limits.json`; look at what changed before
keeping it.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed; see mercury-lsp[dev]")

ROOT = pathlib.Path(__file__).parents[2]
LIMITS = json.loads((pathlib.Path(__file__).parent / "limits.json").read_text())
MAY_GROW = ("registers", "shared")


def compiled(tmp: pathlib.Path, *options: str) -> dict[str, Any]:
    """What `kernels/tools/aot.py` reports."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp)
    environment["TRITON_DEFAULT_FP_FUSION"] = "1"
    environment["PYTHONPATH"] = str(ROOT / "kernels")
    command = [sys.executable, str(ROOT / "kernels" / "tools" / "aot.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def binaries(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """Binaries outlive the run where pytest keeps a cache; they are found by their content."""
    cache = getattr(request.config, "cache", None)
    return pathlib.Path(cache.mkdir("triton")) if cache else tmp_path


def judge(report: dict[str, Any]) -> list[str]:
    """Everything that is worse than it was, or bad in any case."""
    problems = []
    for name, made in report["configurations"].items():
        limit = LIMITS["configurations"].get(name)
        if limit is None:
            problems.append(f"{name}: no limits are committed for it")
            continue
        if made["spills"] or made["stack"]:
            problems.append(f"{name}: {made['spills']} spills, {made['stack']} bytes of stack")
        if made["products"] and not (made["tensor_core"] and made["async_copies"]):
            problems.append(f"{name}: a matrix product without wgmma or asynchronous copies")
        if "](*fp8" in name and made["products"] and not made["fp8"]:
            problems.append(f"{name}: rows and weights in fp8 that are not multiplied in it")
        if report["triton"] == LIMITS["triton"]:
            problems += [
                f"{name}: {made[what]} {what}, {limit[what]} before"
                for what in MAY_GROW
                if made[what] > limit[what]
            ]
    return problems


def test_plain_configurations_compile_to_tensor_cores_without_spills(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    report = compiled(binaries(request, tmp_path), "--plain")
    assert len(report["configurations"]) > 20
    assert judge(report) == []


@pytest.mark.slow
def test_every_shipped_configuration_compiles_to_tensor_cores_without_spills(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    report = compiled(binaries(request, tmp_path))
    assert judge(report) == []
    assert set(report["configurations"]) == set(LIMITS["configurations"])


def test_the_judge_sees_a_spill_a_lost_tensor_core_and_a_grown_register_count() -> None:
    name, limit = next(
        (n, limit) for n, limit in LIMITS["configurations"].items() if limit["products"]
    )
    for worse in (
        {"spills": 1},
        {"stack": 8},
        {"tensor_core": 0},
        {"async_copies": 0},
        {"registers": limit["registers"] + 1},
        {"shared": limit["shared"] + 1},
    ):
        report = {**LIMITS, "configurations": {name: {**limit, **worse}}}
        assert len(judge(report)) == 1
    assert judge({**LIMITS, "configurations": {"another": limit}}) != []


def test_the_judge_sees_products_of_fp8_that_are_widened() -> None:
    fp8 = {n: each for n, each in LIMITS["configurations"].items() if "](*fp8" in n}
    kernels = {name.split("[")[0] for name, made in fp8.items() if made["products"]}
    assert kernels == {"linear_part", "swiglu_tile", "predict_tile"}
    name, limit = next(iter(fp8.items()))
    report = {**LIMITS, "configurations": {name: {**limit, "fp8": 0}}}
    assert "multiplied" in judge(report)[0]


def test_committed_limits_leave_room_for_their_programs_on_a_multiprocessor() -> None:
    for name, limit in LIMITS["configurations"].items():
        assert limit["spills"] == limit["stack"] == 0, name
        assert limit["registers"] <= 255, name
        assert limit["shared"] <= 227 * 1024, name
        assert limit["resident_programs"] >= 1, name
