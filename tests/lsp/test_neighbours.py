"""Which files beside a document are read, and what comes of it."""

import asyncio
import json
import os
from itertools import count
from pathlib import Path

import pytest
from lsp.wire import SCRIPTED, WATCHDOG_SECONDS, Wire, serving

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


UNSURE = [*SCRIPTED, json.dumps({"writes": "abc", "unsure": True})]
"""A model whose every word gives way to what is repeated."""


async def offered(wire: Wire, uri: str, expected: str) -> None:
    """Ask behind `hhh = ` until this is offered: files are read in the background.

    Every time below one line more, or what was offered before would be offered again.
    """
    async with asyncio.timeout(WATCHDOG_SECONDS):
        for lines in count(1):
            wire.notify(
                "textDocument/didChange",
                {
                    "textDocument": {"uri": uri, "version": lines},
                    "contentChanges": [{"text": "#\n" * lines + "hhh = \n"}],
                },
            )
            answer = await wire.complete(lines, 6, uri=uri)
            if answer["result"][0]["insertText"] == expected:
                return


@pytest.mark.parametrize(("neighbours", "expected"), [(True, "ggg"), (False, "abc")])
async def test_files_beside_an_open_one_are_read_if_they_may_be(
    tmp_path: Path, neighbours: bool, expected: str
) -> None:
    (tmp_path / "other.py").write_text("hhh = ggg\n", "utf-8")
    here = (tmp_path / "here.py").as_uri()
    async with serving(UNSURE) as wire:
        await wire.initialize(initializationOptions={"neighbours": neighbours})
        await wire.hear("mercury/status", state="ready")
        wire.open("hhh = \n", here)
        await offered(wire, here, expected)


async def test_a_file_is_read_again_once_its_editor_has_closed_it(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("hhh = ggg\n", "utf-8")
    here = (tmp_path / "here.py").as_uri()
    async with serving(UNSURE) as wire:
        await wire.initialize()
        await wire.hear("mercury/status", state="ready")
        wire.open("hhh = \n", here)
        await offered(wire, here, "ggg")
        wire.open("hhh = fff\n", other.as_uri())
        await offered(wire, here, "fff")
        other.write_text("hhh = eee\n", "utf-8")
        wire.notify("textDocument/didClose", {"textDocument": {"uri": other.as_uri()}})
        await offered(wire, here, "eee")
