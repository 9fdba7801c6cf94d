"""Time many clients of one mini: gaps filled with dynamic batching, and one by one.

`python model/tools/bench_batch.py` on a quiet machine, with mini pulled, writes
`model/results/batch.json`. Each client requests a gap, waits for the result and requests the next
one. Both ways must give the same texts; otherwise nothing is reported.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from mercury_lsp.bench.mini import options, origin
from mercury_lsp.bench.sources import sources
from mercury_lsp.config import surroundings
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import LoadedModel, load
from mercury_model.serving import DynamicBatcher, EngineLimits, InfillRequest

FOUND = Path(__file__).parents[1] / "results" / "batch.json"
CLIENTS = (1, 4, 16)
ROUNDS = 3
CONTEXT_BYTES = 1 << 30
BEFORE, BEHIND = 12, 4
"""Lines before and after a gap."""

Fill = Callable[[FimPrompt, SamplingParams], str]
"""Fills one gap and returns the text."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of `clients` concurrent clients in `mode`, in milliseconds.

    The contexts are cached beforehand, as they mostly are for an editor.
    """

    way: str
    mode: str
    clients: int
    gaps_per_second: float
    median_ms: float
    p95_ms: float


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--gaps", type=int, default=16, help="gaps to fill, by all clients")
    parser.add_argument("--tokens", type=int, default=12, help="of each middle at most")
    given = parser.parse_args()
    model = load("mini", cache_dir=surroundings().cache_dir, threads=given.threads)
    gaps, timings = cut(given.gaps), []
    modes: tuple[Mode, ...] = ("verified", "autoregressive")
    with (
        ThreadPoolExecutor(1) as thread,
        DynamicBatcher(model, EngineLimits(context_bytes=CONTEXT_BYTES)) as batcher,
    ):
        ways = {"one by one": one_by_one(model, thread), "shared": shared(batcher)}
        for fill in ways.values():
            asked(fill, gaps, SamplingParams(max_tokens=1), len(gaps))
        for mode in modes:
            sampling = SamplingParams(mode=mode, max_tokens=given.tokens)
            for clients in CLIENTS:
                for timing in timed(ways, gaps, sampling, clients):
                    sys.stdout.write(
                        f"{timing.mode:14} {timing.clients:2} clients, {timing.way:10} "
                        f"{timing.gaps_per_second:6.2f} gaps/s, {timing.median_ms:7.0f} ms, "
                        f"p95 {timing.p95_ms:7.0f} ms\n"
                    )
                    timings.append(timing)
    report = {
        "model": "mini",
        "runtime": model.runtime.name,
        "gaps": len(gaps),
        "rounds": ROUNDS,
        "tokens": given.tokens,
        **origin(),
        "timings": [asdict(timing) for timing in timings],
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def cut(count: int) -> list[FimPrompt]:
    """Gaps in held-out code, each at the last word of a line, from one file after another."""
    files, gaps = [source.text.splitlines(keepends=True) for source in sources("trace")], []
    for number in range(count):
        lines = files[number % len(files)]
        place = (7 + 13 * number) % len(lines)
        while not lines[place].strip():
            place = (place + 1) % len(lines)
        words, _, _ = lines[place].rstrip().rpartition(" ")
        before = "".join(lines[max(0, place - BEFORE) : place]) + words
        gaps.append(FimPrompt(before, "\n" + "".join(lines[place + 1 : place + 1 + BEHIND])))
    return gaps


def one_by_one(model: LoadedModel, thread: ThreadPoolExecutor) -> Fill:
    """Fill gaps in order of arrival, one at a time."""
    infiller = Infiller(model.card, model.tokenizer, model.runtime, CONTEXT_BYTES)

    def drafted(gap: FimPrompt, sampling: SamplingParams) -> str:
        *_, last = infiller.drafts(gap, sampling)
        return last.text

    return lambda gap, sampling: thread.submit(drafted, gap, sampling).result()


def shared(batcher: DynamicBatcher) -> Fill:
    """Fill gaps with the batcher, in shared passes."""
    return lambda gap, sampling: batcher.submit(InfillRequest(gap, sampling)).result().text


def timed(
    ways: Mapping[str, Fill], gaps: Sequence[FimPrompt], sampling: SamplingParams, clients: int
) -> list[Timing]:
    """The timings of each way, measured in turn. Exits if the texts differ."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    texts: list[list[str]] = []
    for _ in range(ROUNDS):
        for way, fill in ways.items():
            began = time.perf_counter()
            found, took = asked(fill, gaps, sampling, clients)
            seconds[way].append(time.perf_counter() - began)
            milliseconds[way] += took
            texts.append(found)
    if any(found != texts[0] for found in texts):
        sys.exit("The texts depend on the batch; nothing is reported.")
    return [
        Timing(
            way=way,
            mode=sampling.mode,
            clients=clients,
            gaps_per_second=len(gaps) / median(seconds[way]),
            median_ms=median(milliseconds[way]),
            p95_ms=float(np.percentile(milliseconds[way], 95)),
        )
        for way in ways
    ]


def asked(
    fill: Fill, gaps: Sequence[FimPrompt], sampling: SamplingParams, clients: int
) -> tuple[list[str], list[float]]:
    """The text and the milliseconds of each gap; a client has one request at a time."""

    def ask(gap: FimPrompt) -> tuple[str, float]:
        began = time.perf_counter()
        return fill(gap, sampling), 1e3 * (time.perf_counter() - began)

    with ThreadPoolExecutor(clients) as pool:
        texts, milliseconds = zip(*pool.map(ask, gaps), strict=True)
    return list(texts), list(milliseconds)


if __name__ == "__main__":
    main()
