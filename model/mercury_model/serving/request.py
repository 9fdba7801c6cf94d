"""Requests to the engine, and the sequences that it makes of them."""

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
"""The output of a request before its first draft."""


class Priority(IntEnum):
    """Whose calls come first: a waiting person's, those made ahead of a key, or bulk work's."""

    KEYSTROKE = 0
    SPECULATIVE = 1
    BULK = 2


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A gap to fill.

    A request that is not done `within_ms` after it was submitted ends with its last draft. Among
    requests of one priority, clients take turns.
    """

    gap: FimPrompt
    sampling: SamplingParams = field(default_factory=SamplingParams)
    priority: Priority = Priority.BULK
    within_ms: float | None = None
    client: Hashable = None


class Outcome(Enum):
    """How a sequence ended."""

    FINISHED = "finished"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class InfillSequence:
    """A request that waits or runs. `draft` is its last output; `error` says why it failed.

    The rest is for the engine: `wanted` is the context, `generator` runs once there is memory for
    it, and `call` is the call that it waits for. It is `reading` until its context is complete.
    """

    request: InfillRequest
    number: int
    arrived_ns: int
    deadline_ns: int | None
    draft: PartialOutput = EMPTY_OUTPUT
    outcome: Outcome | None = None
    error: Exception | None = None
    stopped: bool = False
    wanted: FimContext | None = None
    generator: CallGenerator[PartialOutput] | None = None
    call: ForwardCall | None = None
    reading: bool = True
    reserved_bytes: int = 0

    def cancel(self) -> None:
        """Make no further call for it. From any thread."""
        self.stopped = True
