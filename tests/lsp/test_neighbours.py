"""Which files beside a document are read, and what comes of it."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from lsp.wire import SCRIPTED, WATCHDOG_SECONDS, serving

from mercury_lsp.core.similar import DOCUMENT_CHARS
from mercury_lsp.core.types import Document
from mercury_lsp.lsp.neighbours import ENTRIES, FILE_BYTES, FILES, beside


def texts(path: Path) -> list[str]:
    return [found.text for found in beside(Document(path.as_uri(), "python", ""))]


def test_files_of_the_same_kind_are_read_and_no_others(tmp_path: Path) -> None:
    names = ("here.py", "there.py", "there.pyi", "read.me", "py", "nested/deep.py", "a space é.py")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, "utf-8")
    (tmp_path / "folder.py").mkdir()
    assert sorted(texts(tmp_path / "here.py")) == ["a space é.py", "there.py"]
    assert texts(tmp_path / "py") == []


def test_what_was_changed_last_comes_first(tmp_path: Path) -> None:
    for age in range(FILES + 3):
        (tmp_path / f"{age}.py").write_text(str(age), "utf-8")
        os.utime(tmp_path / f"{age}.py", (1e9 - age, 1e9 - age))
    assert texts(tmp_path / "new.py") == [str(age) for age in range(FILES)]


def test_large_files_are_left_out_and_long_ones_cut(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("a" * (FILE_BYTES + 1), "utf-8")
    (tmp_path / "long.py").write_text("b" * (DOCUMENT_CHARS + 1), "utf-8")
    assert texts(tmp_path / "here.py") == ["b" * DOCUMENT_CHARS]


def test_what_is_no_text_is_left_out_or_readable(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"a\0b")
    (tmp_path / "latin.py").write_bytes(b"caf\xe9 = 1")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert texts(tmp_path / "here.py") == ["caf\N{REPLACEMENT CHARACTER} = 1"]


def test_a_crowded_folder_is_not_read_to_its_end(tmp_path: Path) -> None:
    for number in range(ENTRIES + 10):
        (tmp_path / f"{number}.txt").touch()
    assert len(texts(tmp_path / "here.txt")) == FILES


@pytest.mark.parametrize(
    "uri",
    [
        "untitled:Untitled-1",
        "vscode-remote://host/a.py",
        "file://host/a.py",
        "file:///nowhere/at/all/a.py",
        "file:///%00/a.py",
        "file://[/a.py",
        "a.py",
        "",
    ],
)
def test_a_document_that_is_no_file_here_has_nothing_beside_it(uri: str) -> None:
    assert beside(Document(uri, "python", "")) == ()


@pytest.mark.parametrize(("neighbours", "expected"), [(True, "ggg"), (False, "abc")])
async def test_files_beside_an_open_one_are_read_if_they_may_be(
    tmp_path: Path, neighbours: bool, expected: str
) -> None:
    (tmp_path / "other.py").write_text("hhh = ggg\n", "utf-8")
    here = (tmp_path / "here.py").as_uri()
    async with serving([*SCRIPTED, json.dumps({"writes": "abc", "unsure": True})]) as wire:
        await wire.initialize(initializationOptions={"neighbours": neighbours})
        await wire.hear("mercury/status", state="ready")
        wire.open("hhh = \n", here)
        async with asyncio.timeout(WATCHDOG_SECONDS):
            while (await wire.complete(0, 6, uri=here))["result"][0]["insertText"] != expected:
                pass  # they are read in the background
