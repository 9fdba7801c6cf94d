"""How likely a network finds a text, token by token: read causally, and by denoising masks."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.network.attention import MaskedAttention, causal_mask
from mercury_model.network.denoiser import Denoiser
from mercury_model.spec.fim_format import FimFormat

Values = NDArray[np.float64]


def causal_log_probs(network: Denoiser, ids: Sequence[int], format: FimFormat) -> Values:
    """log p of each of `ids` given those before it, in nats; read as a prefix without a suffix.

    A window of the format's prefix length moves over the text by halves, so that all but the first
    tokens of a text are seen after at least half a window.
    """
    parts = []
    for window, fresh in _windows(ids, format):
        rows = _rows(window, format)
        seen = causal_mask(rows.numel())
        logits = _logits(network, rows, torch.arange(rows.numel()), seen)
        parts.append(_picked(logits[1:-1], window)[-fresh:])
    return np.concatenate(parts)


def denoised_log_probs(network: Denoiser, ids: Sequence[int], format: FimFormat) -> Values:
    """The same from blocks of masks: each of `ids` as the first mask after the token before it.

    A factorisation like any other, so these too add up to the log-likelihood of a model: the one
    that decodes a token a step.
    """
    length = format.block_length
    parts = []
    for window, fresh in _windows(ids, format):
        rows = _rows(window, format)
        first = rows.numel() - 1 - fresh  # the row before the first token to be scored
        blocks = torch.full((fresh, length), format.mask_id)
        blocks[:, 0] = rows[first:-1]
        starts = torch.arange(first, first + fresh)
        positions = torch.cat(
            [torch.arange(rows.numel()), (starts[:, None] + torch.arange(length)).flatten()]
        )
        seen = torch.eye(positions.numel(), dtype=torch.bool)
        seen[: rows.numel(), : rows.numel()] = causal_mask(rows.numel())[0, 0]
        noisy = torch.arange(fresh).repeat_interleave(length)
        seen[rows.numel() :, rows.numel() :] = noisy[:, None] == noisy
        seen[rows.numel() :, : rows.numel()] = torch.arange(rows.numel()) < starts[noisy][:, None]
        every = torch.cat([rows, blocks.flatten()])
        logits = _logits(network, every, positions, seen[None, None])
        parts.append(_picked(logits[rows.numel() :: length], window[-fresh:]))
    return np.concatenate(parts)


def _windows(ids: Sequence[int], format: FimFormat) -> Iterator[tuple[Sequence[int], int]]:
    """Windows over `ids`, and how many tokens at the end of each no window had before."""
    half = format.prefix_tokens // 2
    for start in range(0, len(ids), half):
        stop = min(len(ids), start + half)
        yield ids[max(0, start - half) : stop], stop - start


def _rows(window: Sequence[int], format: FimFormat) -> Tensor:
    return torch.tensor([*format.before_prefix(()), *window])


def _logits(network: Denoiser, rows: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.logits(network(rows[None], positions[None], MaskedAttention(seen)))[
            0
        ].float()


def _picked(logits: Tensor, tokens: Sequence[int]) -> Values:
    """log softmax of `logits` [N, V] at `tokens` [N]."""
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(list(tokens))[:, None])[:, 0]
    result: Values = chosen.double().numpy()
    return result
