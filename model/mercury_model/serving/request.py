"""What is asked of the engine, and how far it has come."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from mercury_model.decoding.call_generator import CallGenerator
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.runtime.protocol import ForwardCall
from mercury_model.spec.fim_format import FimContext

EMPTY_OUTPUT = PartialOutput((), (), (), "", False, None, 0, 0)
"""What a request has come to before its first draft."""


class Priority(IntEnum):
    """Whose calls come first: a person who waits, what is done ahead of one, or nobody's hurry."""

    KEYSTROKE = 0
    SPECULATIVE = 1
    BULK = 2


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A gap to fill.

    What is not done `within_ms` after it was submitted ends with what there is by then. Among
    orders of one priority each `client` has its turn.
    """

    gap: FimPrompt
    sampling: SamplingParams = field(default_factory=SamplingParams)
    priority: Priority = Priority.BULK
    within_ms: float | None = None
    client: Hashable = None


class Outcome(Enum):
    """How a job ended."""

    FINISHED = "finished"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class InfillSequence:
    """An order on its way. `draft` is the best so far; `error` says why it failed.

    The rest is the engine's own: `call` is what the script waits for, once it has begun; until its
    context is complete it is `reading`.
    """

    order: InfillRequest
    number: int
    arrived_ns: int
    deadline_ns: int | None
    draft: PartialOutput = EMPTY_OUTPUT
    outcome: Outcome | None = None
    error: Exception | None = None
    stopped: bool = False
    wanted: FimContext | None = None
    script: CallGenerator[PartialOutput] | None = None
    call: ForwardCall | None = None
    reading: bool = True
    reserved_bytes: int = 0

    def cancel(self) -> None:
        """Take no further call for it. From any thread."""
        self.stopped = True
