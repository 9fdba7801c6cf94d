"""Large memory pages for weights, on Linux.

A step reads every weight once. In pages of 4 kB that is tens of thousands of address look-ups, and
the processor stops reading ahead at the end of each page; pages of 2 MB take a tenth off a step.
The kernel is asked, and where it declines nothing is lost.
"""

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGE_BYTES = 2 << 20

_MAPS = Path("/proc/self/maps")
_HUGEPAGE, _COLLAPSE = 14, 25  # advice of madvise(2)

Range = tuple[int, int]


@contextmanager
def large() -> Iterator[None]:
    """Moves what is allocated inside, and still there at the end, to large pages."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before = _anonymous()
    yield
    for start, end in _added(before, _anonymous()):
        first, last = -(-start // PAGE_BYTES) * PAGE_BYTES, end // PAGE_BYTES * PAGE_BYTES
        if first < last:
            _advise(first, last - first)


def _anonymous() -> list[Range]:
    """The addresses of private, writable memory that belongs to no file."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, access, _offset, _device, inode, *name = line.split()
        if access == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _added(before: Sequence[Range], after: Sequence[Range]) -> Iterator[Range]:
    """What of `after` was not in `before`; both in order, without overlaps."""
    for start, end in after:
        for old_start, old_end in before:
            if old_end <= start or end <= old_start:
                continue
            if start < old_start:
                yield start, old_start
            start = old_end
        if start < end:
            yield start, end


def _advise(start: int, size: int) -> None:
    """Ask for large pages, then have those that are in use moved now (Linux 6.1)."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for advice in (_HUGEPAGE, _COLLAPSE):
        madvise(start, size, advice)
