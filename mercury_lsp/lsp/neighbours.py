"""Files in the folder of an open document: their code is often repeated in it.

They are read from the local disk and kept in memory only. The work is bounded.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pygls import uris

from mercury_lsp.core.similar import DOCUMENT_CHARS
from mercury_lsp.core.types import Document

FILES = 8
"""How many files are read; the last changed ones are."""
ENTRIES = 2_000
"""How many entries of a folder are examined."""
FILE_BYTES = 1 << 20
"""Larger files are left out; people rarely write them by hand."""


def beside(document: Document) -> tuple[Document, ...]:
    """The files in the folder of `document` with its suffix, last changed first.

    Empty for a document that is no local file. Unreadable files are left out.
    """
    path = _path(document.uri)
    if path is None or not path.suffix:
        return ()
    found = sorted(_files(path), key=lambda file: -file[0])[:FILES]
    return tuple(
        Document(file.as_uri(), document.language, text)
        for _, file in found
        if "\0" not in (text := _text(file))
    )


def _path(uri: str) -> Path | None:
    local = uris.to_fs_path(uri) if uri.startswith("file:///") else None
    return Path(local) if local else None


def _files(path: Path) -> Iterator[tuple[float, Path]]:
    """The modification time and path of each file beside `path`."""
    with suppress(OSError, ValueError), os.scandir(path.parent) as entries:
        for entry in islice(entries, ENTRIES):
            if entry.name.endswith(path.suffix) and entry.name != path.name and entry.is_file():
                status = entry.stat()
                if status.st_size <= FILE_BYTES:
                    yield status.st_mtime, Path(entry.path)


def _text(path: Path) -> str:
    with suppress(OSError), path.open(encoding="utf-8", errors="replace", newline="") as file:
        return file.read(DOCUMENT_CHARS)
    return ""
