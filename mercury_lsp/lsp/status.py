"""What the server can do now, in the words of the `mercury/status` notification."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """A download mends missing weights; the message of an error says what mends it."""

    OFF = "off"
    LOADING = "loading"
    READY = "ready"
    MISSING = "missing"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Status:
    """A state, and which model runs, or what is wrong and how to mend it."""

    state: State
    message: str = ""
