"""Describes the machine and the installation, for `doctor` and for benchmark reports."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "pygls",
    "lsprotocol",
    "numpy",
    "torch",
    "onnxruntime",
    "tokenizers",
    "safetensors",
    "tree-sitter",
    "triton",
)

CPU_FEATURES = (
    "avx2",
    "f16c",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Instruction sets that affect the speed of a small model, named as in /proc/cpuinfo."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` are physical; `threads` are logical and usable by this process."""

    system: str
    processor: str
    cores: int
    threads: int
    flags: tuple[str, ...]
    memory_bytes: int


def describe() -> Machine:
    """Describe this machine."""
    import psutil

    threads = _usable_threads()
    cores = psutil.cpu_count(logical=False) or threads
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_field("model name") or platform.processor() or platform.machine(),
        cores=min(cores, threads),
        threads=threads,
        flags=_flags(),
        memory_bytes=psutil.virtual_memory().total,
    )


def versions() -> dict[str, str]:
    """The versions of Python, this package and its installed dependencies."""
    found = {"python": platform.python_version()}
    for name in ("mercury-lsp", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout, with a + if it has changes. None outside a checkout."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _usable_threads() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _flags() -> tuple[str, ...]:
    present = set((_field("flags") or _field("Features")).split())
    return tuple(flag for flag in CPU_FEATURES if flag in present)


def _field(name: str) -> str:
    """The value of a /proc/cpuinfo line, or an empty string."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
