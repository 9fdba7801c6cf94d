"""What the server tells of its requests: the answer to `mercury/statistics`. No source text."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from mercury_lsp.errors import ServerGone

METHOD = "mercury/statistics"


@dataclass(frozen=True, slots=True)
class Record:
    """One inline-completion request, as the server saw it.

    `outcome`: shown, nothing, stale, cancelled, superseded, not_ready or failed. `missed`: its
    deadline ended it before the draft was finished. `steps` are denoising (or decoding) calls of
    the model, `prefill_chunks` those that read its context, `tokens` what the draft settled.
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
        """Whether the model ran for it."""
        return self.steps > 0 or self.prefill_chunks > 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """The server's state and the requests since the number asked for.

    `model` is None until weights are loaded. `cpu_seconds` and `peak_memory_bytes` are those of
    the server's process since it began.
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
        """Raises ServerGone for anything of another shape."""
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
                f"The server's statistics have another shape (no {error}).",
                "Measure a server of the same version as the bench.",
            ) from error
