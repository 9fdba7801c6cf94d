"""Contexts as lists of pages in one pool on a device, so that they can grow and share memory.

Forks share their common pages; a page with several owners is copied before one writes to it.
"""

import weakref
from collections.abc import Iterable

import torch

from mercury_kernels.paged import PAGE
from mercury_kernels.step import Network


class PagePool:
    """The pages of all contexts; page 0 is never given out.

    A full pool doubles, which replaces `pages` by other tensors. `reallocations` counts how often:
    passes captured with earlier tensors must be captured again.
    """

    def __init__(self, network: Network, pages: int, dtype: torch.dtype | None = None) -> None:
        self.pages = network.empty_pages(1 + pages, dtype or network.embedding.dtype)
        self.reallocations = 0
        self._free = list(range(pages, 0, -1))
        self._owners = [0] * (1 + pages)

    @property
    def page_bytes(self) -> int:
        """The size of one page over all layers, in bytes."""
        return self.pages.page_bytes

    @property
    def free(self) -> int:
        """The number of pages without an owner."""
        return len(self._free)

    def take(self) -> int:
        """A page with one owner; its contents are undefined."""
        if not self._free:
            self._grow()
        page = self._free.pop()
        self._owners[page] = 1
        return page

    def share(self, page: int) -> None:
        """Add an owner to a page."""
        self._owners[page] += 1

    def own(self, page: int) -> int:
        """The page itself if it has one owner; else a copy, and the page loses an owner."""
        if self._owners[page] == 1:
            return page
        copy = self.take()
        self.pages.copy(page, copy)
        self._owners[page] -= 1
        return copy

    def release(self, pages: Iterable[int]) -> None:
        """Remove one owner of each page; pages without one become free."""
        for page in pages:
            self._owners[page] -= 1
            if not self._owners[page]:
                self._free.append(page)

    def _grow(self) -> None:
        count = self.pages.count
        self.pages = self.pages.doubled()
        self._free.extend(range(2 * count - 1, count - 1, -1))
        self._owners.extend([0] * count)
        self.reallocations += 1


class PagedKVCache:
    """Implements `KVCache`. Its pages become free when it is garbage collected."""

    def __init__(self, pool: PagePool) -> None:
        self.pages: list[int] = []
        self._pool = pool
        self._length = 0
        weakref.finalize(self, pool.release, self.pages).atexit = False

    @property
    def length(self) -> int:
        """See `KVCache`."""
        return self._length

    @property
    def nbytes(self) -> int:
        """See `KVCache`; a shared page counts for each of its owners."""
        return len(self.pages) * self._pool.page_bytes

    def reserve(self, rows: int, at: int | None = None) -> None:
        """See `KVCache`; with `at`, makes room for `rows` tokens from that position on.

        The pages of these rows then have no other owner.
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
        """Add the `rows` tokens that the last pass wrote after the context to it."""
        self._length += rows

    def truncate(self, length: int) -> None:
        """See `KVCache`."""
        self._length = min(self._length, length)
        count = -(-self._length // PAGE)
        dropped = self.pages[count:]
        del self.pages[count:]
        self._pool.release(dropped)

    def fork(self, length: int) -> "PagedKVCache":
        """See `KVCache`; pages are copied on write."""
        copy = PagedKVCache(self._pool)
        copy._length = min(self._length, length)
        for page in self.pages[: -(-copy._length // PAGE)]:
            self._pool.share(page)
            copy.pages.append(page)
        return copy
