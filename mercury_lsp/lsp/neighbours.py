"""Files that lie beside an open document: what is repeated there is likely here, too.

Read from this machine's disk and kept in memory only. Bounded work.
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
"""How many are read: those that were changed last."""
ENTRIES = 2_000
"""How many entries of a folder are looked at."""
FILE_BYTES = 1 << 20
"""Larger files are left out: they are rarely written by hand."""


def beside(document: Document) -> tuple[Document, ...]:
    """The files in the folder of `document` whose names end as its own does, changed last first.

    Nothing for a document that is no file here; what cannot be read is left out.
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
    """When each of the files beside `path` was changed, and where it is."""
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
