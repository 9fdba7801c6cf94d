"""Many clients of one mini: their gaps filled in shared passes, beside one after the other.

`python model/bench_batch.py` on a quiet machine, with mini pulled, writes
`model/results/batch.json`. Each client asks for a gap, waits for its answer and asks for the next
one. Both ways must give the same texts; otherwise there are no figures.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from mercury_lsp import machine
from mercury_lsp.bench.sources import sources
from mercury_lsp.config import surroundings
from mercury_model import models
from mercury_model.batch import DynamicBatcher, Order
from mercury_model.infill import Gap, Infiller, Mode, Sampling
from mercury_model.models import LoadedModel
from mercury_model.runtime import select

OUTPUT = Path(__file__).parent / "results" / "batch.json"
CLIENTS = (1, 4, 16)
BEFORE, BEHIND = 12, 4
"""Lines around a gap: of a context in an editor most is known from the key before."""


Fill = Callable[[int, Gap], str]
"""What a client, by its number, gets for a gap."""


@dataclass(frozen=True, slots=True)
class Timing:
    """`clients` at once, with `mode`; milliseconds from the question to the answer."""

    way: str
    mode: str
    clients: int
    gaps: int
    seconds: float
    gaps_per_second: float
    median_ms: float
    p95_ms: float


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaps", type=int, default=32, help="gaps to fill, by all clients")
    parser.add_argument("--threads", type=int, default=0, help="0 means one per physical core")
    parser.add_argument("--tokens", type=int, default=12, help="of each middle at most")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    threads = given.threads or select.cores()
    model = models.load("mini", cache_dir=surroundings().cache_dir, threads=threads)
    gaps, timings = cut(given.gaps), []
    modes: tuple[Mode, ...] = ("verified", "autoregressive")
    for mode in modes:
        sampling = Sampling(mode=mode, max_tokens=given.tokens)
        for clients in CLIENTS:
            pair = [
                timed(way, mode, clients, gaps, fill(model, sampling))
                for way, fill in (("one by one", one_by_one), ("shared", shared))
            ]
            if pair[0][1] != pair[1][1]:
                sys.exit("Texts differ by what shares a pass; there are no figures.")
            for timing, _ in pair:
                sys.stdout.write(
                    f"{timing.mode:14} {timing.clients:2} clients, {timing.way:10} "
                    f"{timing.gaps_per_second:6.2f} gaps/s, {timing.median_ms:7.0f} ms, "
                    f"p95 {timing.p95_ms:7.0f} ms\n"
                )
                timings.append(timing)
    report = {
        "model": "mini",
        "runtime": model.runtime.name,
        "tokens": given.tokens,
        "machine": asdict(machine.describe()),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "timings": [asdict(timing) for timing in timings],
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def cut(count: int) -> list[Gap]:
    """Gaps in code that no training saw: where a line's last word begins, file by file in turn."""
    files, gaps = [source.text.splitlines(keepends=True) for source in sources("trace")], []
    for number in range(count):
        lines = files[number % len(files)]
        place = (7 + 13 * number) % len(lines)
        while not lines[place].strip():
            place = (place + 1) % len(lines)
        words, _, _ = lines[place].rstrip().rpartition(" ")
        before = "".join(lines[max(0, place - BEFORE) : place]) + words
        gaps.append(Gap(before, "\n" + "".join(lines[place + 1 : place + 1 + BEHIND])))
    return gaps


def one_by_one(model: LoadedModel, sampling: Sampling) -> tuple[Fill, Callable[[], None]]:
    """Whoever comes waits until all that came before are answered."""
    infiller, thread = Infiller(model.card, model.tokenizer, model.runtime), ThreadPoolExecutor(1)

    def drafted(gap: Gap) -> str:
        *_, last = infiller.drafts(gap, sampling)
        return last.text

    return lambda _, gap: thread.submit(drafted, gap).result(), thread.shutdown


def shared(model: LoadedModel, sampling: Sampling) -> tuple[Fill, Callable[[], None]]:
    """In the passes of the engine."""
    batcher = DynamicBatcher(model)

    def fill(client: int, gap: Gap) -> str:
        return batcher.submit(Order(gap, sampling, client=client)).result().text

    return fill, batcher.close


def timed(
    way: str,
    mode: Mode,
    clients: int,
    gaps: Sequence[Gap],
    started: tuple[Fill, Callable[[], None]],
) -> tuple[Timing, list[str]]:
    """The figures, and the texts by gap."""
    fill, close = started
    texts, milliseconds = [""] * len(gaps), [0.0] * len(gaps)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    fill(0, gaps[-1])  # what is loaded when it is first needed
    for number in range(len(gaps)):
        waiting.put(number)

    def ask(client: int) -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            began = time.perf_counter()
            texts[number] = fill(client, gaps[number])
            milliseconds[number] = 1e3 * (time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    close()
    p95 = float(np.percentile(milliseconds, 95))
    rate = len(gaps) / seconds
    timing = Timing(way, mode, clients, len(gaps), seconds, rate, median(milliseconds), p95)
    return timing, texts


if __name__ == "__main__":
    main()
