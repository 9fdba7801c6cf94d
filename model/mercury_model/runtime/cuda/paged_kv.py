"""Contexts as lists of pages in one pool on a device, so that they can grow, share, and move.

Forks share the pages that they agree on; a page with two owners is copied before one writes to it.
"""

import weakref
from collections.abc import Iterable

import torch

from mercury_kernels.paged import PAGE
from mercury_kernels.step import Network


class PagePool:
    """The pages of all contexts; page 0 is nobody's.

    When they do not suffice there are twice as many: `pages` are then others, and `moved` counts
    how often that has been, for those who have captured where they are.
    """

    def __init__(self, network: Network, pages: int, kept: torch.dtype | None = None) -> None:
        self.pages = network.empty_pages(1 + pages, kept or network.embedding.dtype)
        self.moved = 0
        self._free = list(range(pages, 0, -1))
        self._owners = [0] * (1 + pages)

    @property
    def page_bytes(self) -> int:
        """What one page takes in all layers."""
        return self.pages.page_bytes

    @property
    def free(self) -> int:
        """How many pages nobody owns."""
        return len(self._free)

    def take(self) -> int:
        """A page with one owner. What it holds is undefined."""
        if not self._free:
            self._grow()
        page = self._free.pop()
        self._owners[page] = 1
        return page

    def share(self, page: int) -> None:
        """One owner more."""
        self._owners[page] += 1

    def own(self, page: int) -> int:
        """This page, if it has one owner; else a copy of it, with one owner less for the page."""
        if self._owners[page] == 1:
            return page
        copy = self.take()
        self.pages.copy(page, copy)
        self._owners[page] -= 1
        return copy

    def release(self, pages: Iterable[int]) -> None:
        """One owner less for each."""
        for page in pages:
            self._owners[page] -= 1
            if not self._owners[page]:
                self._free.append(page)

    def _grow(self) -> None:
        count = self.pages.count
        self.pages = self.pages.doubled()
        self._free.extend(range(2 * count - 1, count - 1, -1))
        self._owners.extend([0] * count)
        self.moved += 1


class PagedKVCache:
    """See `mercury_model.runtime.KV`. Gives its pages back when it is forgotten."""

    def __init__(self, pool: PagePool) -> None:
        self.pages: list[int] = []
        self._pool = pool
        self._length = 0
        weakref.finalize(self, pool.release, self.pages).atexit = False

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; a page that is shared counts for each of its owners."""
        return len(self.pages) * self._pool.page_bytes

    def reserve(self, rows: int, at: int | None = None) -> None:
        """Make room for `rows` more tokens, or for others from position `at` on, in pages that are
        nobody else's.
        """
        if rows <= 0:
            return
        start = self._length if at is None else at
        first, needed = start // PAGE, -(-(start + rows) // PAGE)
        for index in range(first, min(needed, len(self.pages))):
            self.pages[index] = self._pool.own(self.pages[index])
        while len(self.pages) < needed:
            self.pages.append(self._pool.take())

    def advance(self, rows: int) -> None:
        """Make the `rows` tokens behind the context part of it."""
        self._length += rows

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on."""
        self._length = min(self._length, length)
        kept = -(-self._length // PAGE)
        beyond = self.pages[kept:]
        del self.pages[kept:]
        self._pool.release(beyond)

    def fork(self, length: int) -> "PagedKVCache":
        """An independent copy of the first `length` tokens; copies nothing until it is needed."""
        copy = PagedKVCache(self._pool)
        copy._length = min(self._length, length)
        for page in self.pages[: -(-copy._length // PAGE)]:
            self._pool.share(page)
            copy.pages.append(page)
        return copy
