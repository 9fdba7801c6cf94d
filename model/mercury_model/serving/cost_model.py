"""The cost model: predicts how long a pass takes from its number of rows."""

from dataclasses import dataclass

DECAY = 0.97
"""The weight of a pass relative to the next one: the load of a machine changes."""


@dataclass(slots=True)
class CostModel:
    """A least-squares line through the observed passes: a fixed cost, and a cost for each row.

    Neither is negative. Before the first observation every pass is expected to take no time.
    """

    _weight: float = 0.0
    _rows: float = 0.0
    _ns: float = 0.0
    _rows_squared: float = 0.0
    _rows_ns: float = 0.0

    @property
    def has_measured(self) -> bool:
        """Whether a pass was observed."""
        return self._weight > 0

    @property
    def knows_rows(self) -> bool:
        """Whether passes of different sizes were observed, which tell the cost of a row."""
        return self.has_measured and self._spread > 1e-6 * (self._rows / self._weight) ** 2

    def observe(self, rows: int, ns: int) -> None:
        """Observe that a pass of `rows` rows took `ns`."""
        self._weight = DECAY * self._weight + 1
        self._rows = DECAY * self._rows + rows
        self._ns = DECAY * self._ns + ns
        self._rows_squared = DECAY * self._rows_squared + rows * rows
        self._rows_ns = DECAY * self._rows_ns + rows * ns

    def expected_ns(self, rows: int) -> float:
        """The expected time of a pass of `rows` rows."""
        if not self.has_measured:
            return 0.0
        mean_rows, mean_ns = self._rows / self._weight, self._ns / self._weight
        shared = self._rows_ns / self._weight - mean_rows * mean_ns
        row_ns = shared / self._spread if self.knows_rows else 0.0
        row_ns = min(max(0.0, row_ns), mean_ns / mean_rows)
        return mean_ns + row_ns * (rows - mean_rows)

    @property
    def _spread(self) -> float:
        return self._rows_squared / self._weight - (self._rows / self._weight) ** 2
