"""The scheduler: whose calls come first. Knows no memory, no network; the time is an argument."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from mercury_model.serving.request import InfillSequence, Priority


class Scheduler:
    """Orders sequences by priority, without starving any.

    Within a priority the first sequence of every client comes before the second of any client, so
    that a client with many requests delays no other. Ties go by deadline, then by arrival. Among
    sequences without a deadline, those that read their context go first until `max_batch_size`
    others have read theirs, since the calls of these have few rows and only then fill a pass. If
    a priority was not served for `patience_ns`, its first sequence goes before all others.
    """

    def __init__(self, patience_ns: int, max_batch_size: int) -> None:
        self._patience_ns = patience_ns
        self._max_batch_size = max_batch_size
        self._served_ns: dict[Priority, int] = {}

    def schedule(self, sequences: Sequence[InfillSequence], now_ns: int) -> list[InfillSequence]:
        """All sequences, the most urgent first."""
        read_first = sum(not sequence.reading for sequence in sequences) < self._max_batch_size

        def urgency(sequence: InfillSequence) -> tuple[float, bool, int]:
            if sequence.deadline_ns is not None:
                return sequence.deadline_ns, False, sequence.number
            return math.inf, read_first and not sequence.reading, sequence.number

        by_client: dict[tuple[Priority, Hashable], list[InfillSequence]] = defaultdict(list)
        for sequence in sequences:
            by_client[sequence.request.priority, sequence.request.client].append(sequence)
        placed = [
            (priority, place, urgency(sequence), sequence)
            for (priority, _), mine in by_client.items()
            for place, sequence in enumerate(sorted(mine, key=urgency))
        ]
        ordered = [sequence for *_, sequence in sorted(placed, key=lambda entry: entry[:3])]
        starved = [
            sequence
            for sequence in ordered
            if self._waited_ns(sequence, now_ns) >= self._patience_ns
        ]
        for sequence in sorted(starved, key=lambda sequence: -self._waited_ns(sequence, now_ns))[
            :1
        ]:
            ordered.remove(sequence)
            ordered.insert(0, sequence)
        return ordered

    def served(self, sequences: Sequence[InfillSequence], now_ns: int) -> None:
        """Take note that the calls of `sequences` were made."""
        for sequence in sequences:
            self._served_ns[sequence.request.priority] = now_ns

    def _waited_ns(self, sequence: InfillSequence, now_ns: int) -> int:
        """How long a sequence has waited without any of its priority being served."""
        return now_ns - max(sequence.arrived_ns, self._served_ns.get(sequence.request.priority, 0))
