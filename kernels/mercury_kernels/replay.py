"""Work that is captured once and replayed: as a CUDA graph, or by running it eagerly.

Only `CudaGraph` needs a GPU. The work that it captures also runs, and is tested, without one.
"""

# mypy: allow-untyped-calls

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch


class Replay(Protocol):
    """Captured work that can be started repeatedly, one run at a time."""

    def start(self) -> None:
        """Start the work and return at once."""

    def ready(self) -> bool:
        """Whether the last run is done. Never waits."""


Capture: TypeAlias = Callable[[Callable[[], None]], Replay]
"""Makes a replay of a call. Capturing may run the call on inputs that are not set yet."""


class Eager:
    """Runs the call when it is started."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def start(self) -> None:
        """See `Replay`."""
        self._call()

    def ready(self) -> bool:
        """See `Replay`."""
        return True


class CudaGraph:
    """The launches of a call as one CUDA graph; its last node sets a flag in pinned host memory.

    Graphs with the same `pool` share their memory, so the call must copy its results out.
    """

    def __init__(self, call: Callable[[], None], pool: Any = None) -> None:
        self._count = torch.zeros(1, dtype=torch.int64, device="cuda")
        flag = torch.zeros(1, dtype=torch.int64).pin_memory()
        self._flag = flag.numpy()
        self._started = 0
        self._after = torch.cuda.Event()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compile the kernels first; a capture cannot
            call()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            call()
            self._count.add_(1)
            flag.copy_(self._count, non_blocking=True)

    def start(self) -> None:
        """See `Replay`."""
        self._started += 1
        self._graph.replay()
        self._after.record()

    def ready(self) -> bool:
        """See `Replay`. Raises errors of the device, after which the flag is never set."""
        if int(self._flag[0]) == self._started:
            return True
        self._after.query()
        return False


def cuda_graphs() -> Capture:
    """A capture whose graphs share their memory, since only one runs at a time."""
    pool = torch.cuda.graph_pool_handle()
    return lambda call: CudaGraph(call, pool)


def wait(replay: Replay) -> None:
    """Wait until the last run is done, yielding to other threads."""
    while not replay.ready():
        time.sleep(0)
