"""The fill-in-the-middle format: how a context is laid out for a set of weights.

The only module that orders marks, suffix, prefix and other files. Inference, training and tests
call it. It knows no tokenizer: text becomes ids through a `TextCodec`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self, TypeAlias

FimOrder: TypeAlias = Literal["suffix-prefix", "psm", "spm"]
"""The order of the parts. S is the suffix, P the prefix; the middle follows.

`suffix-prefix`: `[suffix_id] S [prefix_id] P [middle_id]`.
`psm`: `[prefix_id] P [suffix_id] S [middle_id]` (Bavarian et al. 2022, arXiv:2207.14255).
`spm`: `[prefix_id] [suffix_id] S [middle_id] P`, the same paper's order with the suffix first: the
prefix is empty, and the text before the cursor is the beginning of the middle.
"""

STRIDES = 4
"""The window over the prefix moves in steps of a quarter of its size. Until it moves, typing only
adds ids to the end of the prefix, so cached keys and values stay valid."""

HEADROOM = 4 / 3
"""The layout reads this many times the characters that a caller need send: the window of a caller
that keeps to `characters_per_token` is cut in tokens alone."""


class TextCodec(Protocol):
    """The tokenizer that a layout needs."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes that each id stands for, b"" for marks and unused ids."""

    def normalize(self, text: str) -> str:
        """The text that the ids of `text` decode to."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, no marks among them."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without an incomplete character at its end."""


@dataclass(frozen=True, slots=True)
class FimContext:
    """The context of one gap.

    `ids` end where generation begins. `owed` are the UTF-8 bytes before the cursor that the first
    generated tokens must spell before anything else: the text of the token that healing took back.
    """

    ids: tuple[int, ...]
    owed: bytes = b""


@dataclass(frozen=True, slots=True)
class FimFormat:
    """The format that the weights were trained on. Limits are in tokens; an id of -1 is no mark.

    `eos_id` ends the middle, and so does each of `stop_ids`. `shift`: the output at position j
    predicts token j + 1, as in the autoregressive base, so the context gives the first position of
    a block. `file_tokens`: how much text of other files the training had, 0 for none; each file
    begins with `file_id` and its path, and all files come before the marks of the gap. `repo_id`,
    if there is one, and the name of the repository come before the files.

    `heal`: the last token before the cursor is taken back and generated again, since the cursor may
    stand inside a longer token. `text_ids`: the ids below it are text, the others are marks or
    unused; 0 if every id may be predicted or the weights list those that may.
    `masks_trained`: whether the weights have learnt to predict masked positions. Without that,
    verified decoding appends no masks, and diffusion is of little use.
    `characters_per_token`: how many characters to send for each token of a limit. Measured for the
    tokenizer, so that hardly any window of real code is left with room.
    `quick_prefix_tokens`, `quick_suffix_tokens`: the quick window, which is read where there is no
    time for the full one (see `quick`); a prefix of 0 tokens is no quick window.
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
    order: FimOrder = "suffix-prefix"
    heal: bool = False
    repo_id: int = -1
    stop_ids: tuple[int, ...] = ()
    text_ids: int = 0
    characters_per_token: int = 6
    masks_trained: bool = True
    quick_prefix_tokens: int = 0
    quick_suffix_tokens: int = 0

    @property
    def marks(self) -> tuple[int, ...]:
        """The ids that stand for no text and end no middle: they are never generated."""
        own = (self.mask_id, self.suffix_id, self.prefix_id, self.middle_id)
        more = (self.file_id, self.repo_id)
        return tuple(i for i in (*own, *more) if i >= 0 and i not in self.end_ids)

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a middle."""
        return frozenset((self.eos_id, *self.stop_ids))

    @property
    def context_tokens(self) -> int:
        """The longest sequence: other files, suffix, prefix and middle, without the marks."""
        return self.file_tokens + self.suffix_tokens + self.prefix_tokens + self.middle_tokens

    @property
    def quick(self) -> Self | None:
        """The same format with the quick window and no other files; None if there is none."""
        if not self.quick_prefix_tokens:
            return None
        return replace(
            self,
            prefix_tokens=self.quick_prefix_tokens,
            suffix_tokens=self.quick_suffix_tokens,
            file_tokens=0,
        )

    def characters(self, tokens: int) -> int:
        """How many characters of a text are read where `tokens` of it are wanted."""
        return int(tokens * self.characters_per_token * HEADROOM)

    def predicted_ids(self) -> tuple[int, ...]:
        """The ids that may be predicted, ascending: text and what ends a middle; () for all."""
        if not self.text_ids:
            return ()
        ends = sorted(i for i in self.end_ids if i >= self.text_ids)
        return (*range(self.text_ids), *ends)

    def before_prefix(self, suffix: Sequence[int]) -> list[int]:
        """The ids of a gap that come before its prefix."""
        if self.order == "psm":
            return [self.prefix_id]
        if self.order == "spm":
            return [self.prefix_id, self.suffix_id, *suffix, self.middle_id]
        return [self.suffix_id, *suffix, self.prefix_id]

    def after_prefix(self, suffix: Sequence[int]) -> list[int]:
        """The ids of a gap that come between its prefix and its middle."""
        if self.order == "psm":
            return [self.suffix_id, *suffix, self.middle_id]
        return [] if self.order == "spm" else [self.middle_id]


def fim_context(
    layout: FimFormat,
    codec: TextCodec,
    prefix: str,
    suffix: str,
    others: Sequence[tuple[str, str]] = (),
    repository: str = "",
) -> FimContext:
    """The context of a gap between `prefix` and `suffix`, within the limits of the format.

    `others` are (path, text) of other files, most useful first. They are left out where the
    weights were not trained on other files.
    """
    before, after = prefix_ids(layout, codec, prefix), suffix_ids(layout, codec, suffix)
    owed = b""
    if layout.heal and before:
        owed = codec.token_bytes[before.pop()]
    ids = (
        *_file_ids(layout, codec, others, repository),
        *layout.before_prefix(after),
        *before,
        *layout.after_prefix(after),
    )
    return FimContext(ids, owed)


def suffix_ids(layout: FimFormat, codec: TextCodec, suffix: str) -> list[int]:
    """The beginning of `suffix` that fits."""
    limit = layout.suffix_tokens
    return codec.encode(suffix[: layout.characters(limit)])[:limit]


def prefix_ids(layout: FimFormat, codec: TextCodec, prefix: str) -> list[int]:
    """The last lines of `prefix` that fit; the window moves in whole strides of tokens."""
    limit = layout.prefix_tokens
    text = codec.normalize(_tail(prefix, layout.characters(limit)))
    ids = codec.encode(text)
    if len(ids) <= limit:
        return ids
    stride = max(1, limit // STRIDES)
    drop = -(-(len(ids) - limit) // stride) * stride
    cut = len(codec.decode(ids[:drop]))
    line = text.find("\n", cut) + 1
    shown = codec.encode(text[line:]) if line else []
    if len(shown) < limit // 2:  # one long line: there is no better place than this
        shown = codec.encode(text[cut:])
    return shown[-limit:]


def _file_ids(
    layout: FimFormat, codec: TextCodec, others: Sequence[tuple[str, str]], repository: str
) -> list[int]:
    """The text of other files within `file_tokens`, behind the name of their repository.

    With a `repo_id` the file of the gap comes last, behind a `file_id` of its own.
    """
    limit = layout.file_tokens if others else 0
    ids: list[int] = []
    if limit > 1 and layout.repo_id >= 0:
        limit -= 1  # for the mark of the file with the gap
        ids = [layout.repo_id, *codec.encode(f"{repository}\n")][:limit]
    for path, text in others:
        room = limit - len(ids) - 1
        if room <= 0:
            break
        shown = f"{path}\n{text}"[: layout.characters(room)]
        ids += [layout.file_id, *codec.encode(shown)[:room]]
    return [*ids, layout.file_id] if limit > 0 and layout.repo_id >= 0 else ids


def _tail(text: str, limit: int) -> str:
    """The end of `text` from a multiple of `limit` characters on: at most 2 · `limit`."""
    start = max(0, (len(text) - limit) // limit * limit)
    line = text.find("\n", start, start + limit) + 1 if start else 0
    return text[line or start :]
