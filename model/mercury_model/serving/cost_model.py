"""How long a pass of so many rows takes, learnt from those that were."""

from dataclasses import dataclass

DECAY = 0.97
"""What an earlier pass counts for beside the one after it: other work on a machine comes and goes.
"""


@dataclass(slots=True)
class CostModel:
    """A line through the passes seen, by least squares: a pass costs `base` and each row more.

    Neither is ever negative. Before the first pass nothing is expected to take any time.
    """

    _weight: float = 0.0
    _rows: float = 0.0
    _ns: float = 0.0
    _rows_squared: float = 0.0
    _rows_ns: float = 0.0

    def saw(self, rows: int, ns: int) -> None:
        """A pass of `rows` rows took `ns`."""
        self._weight = DECAY * self._weight + 1
        self._rows = DECAY * self._rows + rows
        self._ns = DECAY * self._ns + ns
        self._rows_squared = DECAY * self._rows_squared + rows * rows
        self._rows_ns = DECAY * self._rows_ns + rows * ns

    def expected_ns(self, rows: int) -> float:
        """How long a pass of `rows` rows should take."""
        if not self._weight:
            return 0.0
        mean_rows, mean_ns = self._rows / self._weight, self._ns / self._weight
        spread = self._rows_squared / self._weight - mean_rows**2
        shared = self._rows_ns / self._weight - mean_rows * mean_ns
        # Passes that were all alike say nothing of what a row more costs.
        row_ns = shared / spread if spread > 1e-6 * mean_rows**2 else 0.0
        row_ns = min(max(0.0, row_ns), mean_ns / mean_rows)
        return mean_ns + row_ns * (rows - mean_rows)
