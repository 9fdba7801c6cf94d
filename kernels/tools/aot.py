"""Compile every shipped configuration for sm_90, without a GPU, and report the binaries.

`python kernels/tools/aot.py` prints JSON: registers, shared memory, spills and tensor-core
instructions of each configuration. `--write FILE` also writes it to a file: the limits that the
tests compare later compilations with. `--only TEXT` selects operations whose folder contains TEXT.
`--plain` skips quantized weights and caches and all steps but the interactive one. TRITON_INTERPRET
must not be set.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mercury_kernels.catalogue import OPERATIONS
from mercury_kernels.launch import Launch
from mercury_kernels.step import SIZES
from mercury_kernels.workload import shipped

TOOLS = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}
REGISTERS, THREADS, SHARED = 65536, 2048, 227 * 1024
"""The resources of one SM of an H100."""


def launches(only: str, plain: bool) -> Iterator[Launch]:
    """Every launch of every shipped case, recorded with meta tensors."""
    for operation in OPERATIONS:
        if only not in operation.folder:
            continue
        for case, source in shipped(operation, "meta", SIZES[:1] if plain else SIZES):
            if plain and (source.weight_dtype or source.cache_dtype or source.row_dtype):
                continue
            recorded: list[Launch] = []
            operation.kernel()(**case.inputs(source), submit=recorded.append)
            yield from recorded


def signature(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """The types, constants and attributes that the launcher of Triton specializes on.

    Allocations are aligned to 16 bytes; an integer of 1 becomes a constant.
    """
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[Any, Any] = {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        general = parameter.do_not_specialize or isinstance(value, float)
        one = not general and type(value) is int and value == 1
        if parameter.is_constexpr or value is None or one:
            types[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            types[parameter.name] = POINTERS[value.dtype]
        elif isinstance(value, float):
            types[parameter.name] = "fp32"
        else:
            types[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, torch.Tensor) or (not general and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    return types, constants, attributes


def key(launch: Launch) -> str:
    """The name of a binary: two launches with the same key share it."""
    types, constants, attributes = signature(launch)
    fixed = ",".join(
        f"{name}={value}" for name, value in constants.items() if not isinstance(value, float)
    )
    kinds = ",".join(
        kind + ("'" if (index,) in attributes else "")
        for index, kind in enumerate(types.values())
        if kind != "constexpr"
    )
    return f"{launch.name}[{fixed}]({kinds}) w{launch.warps} s{launch.stages}"


def compiled(launch: Launch) -> dict[str, int]:
    """Compile one launch and inspect the binary."""
    types, constants, attributes = signature(launch)
    source = ASTSource(launch.kernel, types, constexprs=constants, attrs=attributes)
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    kernel = triton.compile(source, target=TARGET, options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()

        def tool(name: str, *arguments: str) -> str:
            command = [str(TOOLS / name), *arguments, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage, sass = tool("cuobjdump", "-res-usage"), tool("nvdisasm", "-c")
    registers = int(re.findall(r"REG:(\d+)", usage)[0])
    threads, shared = launch.warps * 32, int(kernel.metadata.shared)
    resident = min(
        REGISTERS // (-(-registers // 8) * 8 * threads),
        THREADS // threads,
        SHARED // (shared + 1024),
        32,
    )
    return {
        "registers": registers,
        "shared": shared,
        "stack": int(re.findall(r"STACK:(\d+)", usage)[0]),
        "spills": len(re.findall(r"\b(?:LDL|STL)\b", sass)),
        "fp8": len(re.findall(r"\bQGMMA\b", sass)),
        "tensor_core": len(re.findall(r"\b[HQ]GMMA\b", sass)),
        "async_copies": len(re.findall(r"\bLDGSTS\b", sass)),
        "resident_programs": resident,
        "products": int("tt.dot" in kernel.asm["ttir"]),
    }


_INHERITED: dict[str, Launch] = {}


def _inherited(name: str) -> dict[str, int]:
    return compiled(_INHERITED[name])


def main() -> None:
    """Compile, print the report, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    found = launches(arguments.only, arguments.plain)
    distinct = {key(launch): launch for launch in found}
    names = sorted(distinct)
    # A kernel cannot be pickled, so the workers are forked and inherit the launches.
    _INHERITED.update(distinct)
    with get_context("fork").Pool(min(arguments.workers, len(names))) as pool:
        made = dict(zip(names, pool.map(_inherited, names, chunksize=1), strict=True))
    report = {"triton": triton.__version__, "target": "sm_90", "configurations": made}
    text = json.dumps(report, indent=1)
    if arguments.write:
        arguments.write.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
