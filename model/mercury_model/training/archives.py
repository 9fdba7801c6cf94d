"""Source archives: their files, and the licence their own metadata states. Executes nothing.

Wheels and sdists (PyPI), tarballs (npm) and binary packages that carry source (Debian).
"""

import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

PERMISSIVE = ("MIT", "BSD", "Apache", "PSF", "ISC", "Python Software Foundation", "Expat")
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|EUPL|GNU|Mozilla|Eclipse|CC-BY|SSPL|BUSL)", re.I)
MAX_FILE_BYTES = 400_000


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and contents of every regular file up to MAX_FILE_BYTES, in the archive's order.

    Raises ValueError for an archive of unknown kind.
    """
    if path.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and entry.file_size <= MAX_FILE_BYTES:
                    yield entry.filename, archive.read(entry)
    elif path.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(path) as tar:
            yield from _members(tar)
    elif path.suffix == ".deb":
        unpacked = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(path)], check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
            yield from _members(tar)
    else:
        raise ValueError(f"unknown kind of archive: {path.name}")


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        if member.isfile() and member.size <= MAX_FILE_BYTES:
            handle = tar.extractfile(member)
            if handle is not None:
                yield member.name, handle.read()


def licence(path: Path) -> str:
    """The licence that the package's metadata states, in one line; empty if it states none."""
    for name, data in files(path):
        text = data.decode("utf-8", "replace")
        if name.endswith(".dist-info/METADATA") or re.fullmatch(r"[^/]+/PKG-INFO", name):
            return _python_licence(text)
        if name == "package/package.json":
            return _npm_licence(text)
        if re.fullmatch(r"\./usr/share/doc/[^/]+/copyright", name):
            return _debian_licence(text)
    return ""


def is_permissive(stated: str) -> bool:
    """Whether a stated licence allows training on the code without copyleft."""
    return not COPYLEFT.search(stated) and any(name in stated for name in PERMISSIVE)


def _python_licence(text: str) -> str:
    headers = HeaderParser().parsestr(text)
    expression = headers.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = headers.get_all("Classifier") or []
    stated = [c.rsplit(" :: ", 1)[-1] for c in classifiers if c.startswith("License ::")]
    first_line = str(headers.get("License") or "").strip().split("\n")[0][:80]
    return " AND ".join(stated) or first_line


def _npm_licence(text: str) -> str:
    stated = json.loads(text).get("license", "")
    return str(stated.get("type", "") if isinstance(stated, dict) else stated)


def _debian_licence(text: str) -> str:
    """The licences of a machine-readable copyright file, except that of the packaging."""
    stated = []
    for paragraph in re.split(r"\n\s*\n", text):
        where = re.search(r"^Files:\s*(.+)", paragraph, re.M)
        named = re.search(r"^License:\s*(.+)", paragraph, re.M)
        if where and named and not where[1].startswith("debian/"):
            stated.append(named[1].strip())
    return " AND ".join(dict.fromkeys(stated))
