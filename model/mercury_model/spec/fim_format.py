"""The fill-in-the-middle format: how a context is laid out for a set of weights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FimFormat:
    """How the weights were taught to fill a gap.

    A sequence is `[suffix_id] suffix [prefix_id] prefix [middle_id] middle [eos_id]`.

    `shift`: the output at position j predicts token j + 1, as in the autoregressive base; the
    first position of a block is then given by the context. Limits are in tokens. `file_tokens`:
    how much text of other files was part of training, 0 for none; each begins with `file_id` and
    its path, and all come before the suffix mark.
    """

    suffix_id: int
    prefix_id: int
    middle_id: int
    eos_id: int
    mask_id: int
    block_length: int
    prefix_tokens: int
    suffix_tokens: int
    middle_tokens: int
    shift: bool
    languages: tuple[str, ...]
    file_id: int = -1
    file_tokens: int = 0
