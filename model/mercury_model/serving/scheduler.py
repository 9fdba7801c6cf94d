"""Whose calls come first. Knows no memory, no network; the time is an argument."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from mercury_model.serving.request import InfillSequence, Priority


class Scheduler:
    """Orders jobs: by priority, but none starves.

    Within a priority the first job of every client comes before the second of any, so that nobody
    is kept waiting by how much another asks; equals go by deadline, then as they came. Of those
    without a deadline, what reads its context goes first until `max_batch_size` jobs are past that:
    only then can their calls, of a few rows each, fill a pass. A priority of which nothing was
    served for `patience_ns` has its first job before all others.
    """

    def __init__(self, patience_ns: int, max_batch_size: int) -> None:
        self._patience_ns = patience_ns
        self._lanes = max_batch_size
        self._served_ns: dict[Priority, int] = {}

    def order(self, jobs: Sequence[InfillSequence], now_ns: int) -> list[InfillSequence]:
        """All jobs, whose turn it is first."""
        read_first = sum(not job.reading for job in jobs) < self._lanes

        def urgency(job: InfillSequence) -> tuple[float, bool, int]:
            if job.deadline_ns is not None:
                return job.deadline_ns, False, job.number
            return math.inf, read_first and not job.reading, job.number

        by_client: dict[tuple[Priority, Hashable], list[InfillSequence]] = defaultdict(list)
        for job in jobs:
            by_client[job.order.priority, job.order.client].append(job)
        placed = [
            (priority, place, urgency(job), job)
            for (priority, _), mine in by_client.items()
            for place, job in enumerate(sorted(mine, key=urgency))
        ]
        ordered = [job for *_, job in sorted(placed, key=lambda entry: entry[:3])]
        starved = [job for job in ordered if self._waited_ns(job, now_ns) >= self._patience_ns]
        for job in sorted(starved, key=lambda job: -self._waited_ns(job, now_ns))[:1]:
            ordered.remove(job)
            ordered.insert(0, job)
        return ordered

    def served(self, jobs: Sequence[InfillSequence], now_ns: int) -> None:
        """The calls of `jobs` were made."""
        for job in jobs:
            self._served_ns[job.order.priority] = now_ns

    def _waited_ns(self, job: InfillSequence, now_ns: int) -> int:
        """For how long a job has been there without one of its priority being served."""
        return now_ns - max(job.arrived_ns, self._served_ns.get(job.order.priority, 0))
