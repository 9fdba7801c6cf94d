"""The answer to `mercury/statistics`: the server's record of its requests. No source text."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from mercury_lsp.errors import ServerGone

METHOD = "mercury/statistics"


@dataclass(frozen=True, slots=True)
class Record:
    """One inline-completion request, measured in the server.

    `outcome` is shown, nothing, stale, cancelled, superseded, not_ready or failed. `missed` means
    that the deadline ended it before the draft was finished. `steps` counts denoising or decoding
    calls of the model and `prefill_chunks` its prefill calls. `tokens` counts committed tokens.
    """

    sequence: int
    request: int | str
    trigger: str
    outcome: str
    cached: bool
    missed: bool
    queue_ms: float
    context_ms: float
    prefill_ms: float
    denoise_ms: float
    tidy_ms: float
    total_ms: float
    prefill_chunks: int
    steps: int
    tokens: int
    characters: int

    @property
    def called(self) -> bool:
        """Whether the request ran the model."""
        return self.steps > 0 or self.prefill_chunks > 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """The server's state, and its records from the requested sequence number on.

    `model` is None until the weights are loaded. `cpu_seconds` and `peak_memory_bytes` are those of
    the server process since its start.
    """

    model: str | None
    runtime: str | None
    next: int
    dropped: int
    cpu_seconds: float
    peak_memory_bytes: int
    records: tuple[Record, ...]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Parse the answer. Raises ServerGone if fields are missing."""
        names = [field.name for field in fields(Record)]
        try:
            model = raw["model"]
            return cls(
                model=model and model["name"],
                runtime=model and model["runtime"],
                next=raw["next"],
                dropped=raw["dropped"],
                cpu_seconds=raw["process"]["cpu_seconds"],
                peak_memory_bytes=raw["process"]["peak_memory_bytes"],
                records=tuple(
                    Record(**{name: record[name] for name in names}) for record in raw["records"]
                ),
            )
        except (KeyError, TypeError) as error:
            raise ServerGone(
                f"The server's statistics do not have the expected fields ({error}).",
                "Use a server of the same version as the benchmark.",
            ) from error
