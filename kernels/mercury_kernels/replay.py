"""Work whose launches never change, captured once and replayed: as a CUDA graph, or just run.

`CudaGraph` is all that needs a GPU here; what it captures runs, and is tested, without one.
"""

# mypy: allow-untyped-calls

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch


class Replay(Protocol):
    """Work that can be started again and again, one run at a time."""

    def start(self) -> None:
        """Begin; returns at once."""

    def ready(self) -> bool:
        """Whether what was started last is done. Never waits."""


Capture: TypeAlias = Callable[[Callable[[], None]], Replay]
"""Makes a replay of a call, which may run before: nothing that it reads need be there yet."""


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
    """The launches of the call as one graph. Its last node raises a flag in pinned host memory.

    Graphs with the same `pool` share their memory: results must be copied out within the call.
    """

    def __init__(self, call: Callable[[], None], pool: Any = None) -> None:
        self._count = torch.zeros(1, dtype=torch.int64, device="cuda")
        flag = torch.zeros(1, dtype=torch.int64).pin_memory()
        self._flag = flag.numpy()
        self._started = 0
        self._after = torch.cuda.Event()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles what is not compiled yet: no capture can
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
        """See `Replay`. Raises what went wrong on the device: then no flag is ever raised."""
        if int(self._flag[0]) == self._started:
            return True
        self._after.query()
        return False


def cuda_graphs() -> Capture:
    """Captures graphs that share their memory, since one runs at a time."""
    pool = torch.cuda.graph_pool_handle()
    return lambda call: CudaGraph(call, pool)


def finish(replay: Replay) -> None:
    """Give way to other threads until what was started is done."""
    while not replay.ready():
        time.sleep(0)
