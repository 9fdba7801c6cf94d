"""A program seen from outside: which sockets it opens, and which files it writes.

It runs in a network of its own that leads nowhere, with an empty HOME and next to no environment,
under strace. Linux only.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WRITES = ("open", "openat", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "truncate")
MOVES = ("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat")
CALLS = ",".join(["%network", "execve", *WRITES, *MOVES])

_LINE = re.compile(r"^\d+ +(\w+)\((.*)$")
_PATH = re.compile(r'"([^"]*)"')
_FAILED = re.compile(r"= -1 E[A-Z]+ \(.*\)$")
_FOR_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")


class Refused(Exception):
    """This machine does not let us look; says why."""


@dataclass(frozen=True, slots=True)
class Room:
    """A place for one program: its empty HOME, its working folder, and the log of its calls."""

    folder: Path

    @property
    def home(self) -> Path:
        """All of the user's own that the program is told of."""
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        """The cache folder of mercury-lsp in this home."""
        return self.home / ".cache" / "mercury-lsp"

    @property
    def log(self) -> Path:
        """What strace wrote."""
        return self.folder / "strace"

    def watched(self, command: Sequence[str]) -> list[str]:
        """A command that runs this one in here. Raises Refused."""
        for folder in (self.home / "tmp", self.folder / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        namespace = _namespace()
        # Nothing of ours: a switch that is set here, or the CI that ONNX Runtime spares, would hide
        # what happens to a user. Python's bytecode beside its sources is nobody's business.
        kept = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment = ["env", "-i", "-C", str(self.folder / "work")]
        environment += [f"{name}={value}" for name, value in kept.items()]
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "400", "-e", f"trace={CALLS}"]
        return [*namespace, *environment, *strace, "-o", str(self.log), *command]

    def sockets(self) -> list[str]:
        """Every socket that was made or connected; pairs, which stay in the process, are none."""
        made = ("socket", "connect", "bind", "listen")
        return [f"{call}({rest}" for call, rest in self._calls() if call in made]

    def programs(self) -> list[str]:
        """Every program that was run, the first one included."""
        return [
            _PATH.findall(rest)[0]
            for call, rest in self._calls()
            if call == "execve" and not _FAILED.search(rest)
        ]

    def written_outside(self) -> set[str]:
        """What was made or opened for writing outside of our cache folder, and is not a device."""
        found = set()
        for call, rest in self._calls():
            opened = call in ("open", "openat") and not _FOR_WRITING.search(rest)
            if call in (*WRITES, *MOVES) and not opened and not _FAILED.search(rest):
                found |= {os.path.join(self.folder / "work", path) for path in _PATH.findall(rest)}
        ours = (str(self.cache), str(self.home / ".cache"), "/dev/", "/proc/")
        return {
            path
            for path in found
            if not path.startswith((f"{ours[0]}/", *ours[2:])) and path not in ours[:2]
        }

    def left(self) -> set[str]:
        """What is in the HOME now, but for our cache folder."""
        files = {path for path in self.home.rglob("*") if not path.is_relative_to(self.cache)}
        return {str(path) for path in files} - {str(self.home / name) for name in ("tmp", ".cache")}

    def _calls(self) -> Iterator[tuple[str, str]]:
        for line in self.log.read_text("utf-8", "replace").splitlines():
            if found := _LINE.match(line):
                yield found[1], found[2]


def _namespace() -> list[str]:
    """How to enter a network that leads nowhere. Raises Refused."""
    absent = [name for name in ("strace", "unshare") if shutil.which(name) is None]
    if absent:
        raise Refused(f"{' and '.join(absent)} not installed")
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        probe = [*command, "strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return command
    raise Refused(f"no network namespace or no strace allowed here: {done.stderr.strip()}")
