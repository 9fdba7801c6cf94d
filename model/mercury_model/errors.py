"""What can go wrong with weights and runtimes.

ErrorWithRemedy
└── ModelError
    ├── WeightsMissing       nothing to load, and nothing was asked of the network
    ├── WeightsCorrupted     a hash that does not match: truncated, damaged or tampered with
    ├── WeightsUnsupported   a format or architecture that no family here describes
    ├── PullFailed           every source was tried; the message names each and what it said
    ├── RuntimeUnavailable   the chosen runtime cannot run on this machine
    ├── InsufficientMemory   no configuration of a network, or no context, fits into what is free
    └── Overloaded           more is asked at once than is held
"""


class ErrorWithRemedy(Exception):
    """An error that knows what would mend it.

    `what` says what is wrong, `remedy` what the user can do; `str()` is both.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}"


class ModelError(ErrorWithRemedy):
    """Anything wrong with weights or runtimes."""


class WeightsMissing(ModelError):
    """There is nothing to load, and nothing was asked of the network."""


class WeightsCorrupted(ModelError):
    """A file whose hash does not match what was published."""


class WeightsUnsupported(ModelError):
    """A format or architecture that no family here describes."""


class PullFailed(ModelError):
    """Every source was tried and none delivered."""


class RuntimeUnavailable(ModelError):
    """The chosen runtime cannot run on this machine."""


class InsufficientMemory(ModelError):
    """No configuration of a network fits into what is free, or no context into what is allowed."""


class Overloaded(ModelError):
    """More is asked at once than is held: nothing was begun, and nothing waits."""
