"""The reference of `choose` in plain torch; `mercury_model.decoding.sampler` does it on the host.

The Gumbel noise of a candidate depends on the seed, its position and its rank only, and not on the
batch, the step or the device. The generator is Philox (Salmon et al. 2011); the host has another.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mercury_kernels.head.reference import Predicted


@dataclass(frozen=True, slots=True)
class SamplingTensors:
    """The sampling parameters of B sequences.

    `seeds` [B] int64; `start` [B] int32, the position of the block in the middle; `temperature` [B]
    fp32, 0 for the likeliest token; `rank` [B] int32, the number of candidates to skip at position
    0 of the middle.
    """

    seeds: Tensor
    start: Tensor
    temperature: Tensor
    rank: Tensor


@dataclass(frozen=True, slots=True)
class Choices:
    """The token chosen for each position of a block; all tensors are [B, T].

    `tokens` int32; `confidence` fp32, their probabilities; `entropy` fp32 of the predictions; `kl`
    fp32, the divergence of the predictions from those of the step before, in nats. `kl` is None
    unless the policy needs it.
    """

    tokens: Tensor
    confidence: Tensor
    entropy: Tensor
    kl: Tensor | None = None


def choose(
    predicted: Predicted,
    ids: Tensor,
    sampling: SamplingTensors,
    forbidden: Tensor,
    eos_id: int,
    shift: int,
) -> Choices:
    """token[b, t] = argmax_k (logit_k / temperature + gumbel(seed, start + t, k)), k allowed.

    `predicted` has B · T rows; row t of a block predicts position t + `shift`. The first `shift`
    positions keep their tokens, with confidence 1. `ids` [B, T] int32 is the current block;
    `forbidden` [F] int32 are ids that are never chosen. Where all candidates are forbidden,
    `eos_id` is chosen with confidence 0.
    """
    batch, length = ids.shape
    candidates = predicted.ids.view(batch, length, -1)[:, : length - shift]
    logits = predicted.logits.view(batch, length, -1)[:, : length - shift]
    lse = predicted.lse.view(batch, length, 1)[:, : length - shift]
    probabilities = (logits - lse).exp()
    position = sampling.start[:, None] + torch.arange(shift, length, device=ids.device)  # [B, T']
    rank = torch.arange(candidates.shape[-1], device=ids.device)
    warm = sampling.temperature[:, None, None]
    gumbels = gumbel(sampling.seeds[:, None, None], position[..., None] * len(rank) + rank)
    scores = torch.where(warm > 0, logits / warm.clamp_min(1e-30) + gumbels, logits)
    scores = scores.masked_fill(torch.isin(candidates, forbidden), -torch.inf)
    allowed = scores.isfinite().sum(-1)  # [B, T']
    skipped = torch.where(position == 0, sampling.rank[:, None], 0)
    skipped = skipped.minimum((allowed - 1).clamp_min(0)).long()
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    picked = order.gather(-1, skipped[..., None])
    nothing = allowed == 0

    out = Choices(ids.clone(), *(lse.new_ones(ids.shape) for _ in range(2)))
    chosen, sure = (values.gather(-1, picked)[..., 0] for values in (candidates, probabilities))
    out.tokens[:, shift:] = chosen.masked_fill(nothing, eos_id)
    out.confidence[:, shift:] = sure.masked_fill(nothing, 0.0)
    out.entropy[:, shift:] = predicted.entropy.view(batch, length)[:, : length - shift]
    out.entropy[:, :shift] = 0.0
    return out


def gumbel(seed: Tensor, counter: Tensor) -> Tensor:
    """−log(−log u), u uniform in (0, 1) from the first word of Philox-4x32-10."""
    word = _philox(seed.long(), counter.long())
    word = torch.where(word >= 1 << 31, (1 << 32) - 1 - word, word)
    uniform = (word.to(torch.float32) * 4.6566127342e-10).clamp_min(1e-10)
    return -(-uniform.log()).log()


def _philox(seed: Tensor, counter: Tensor) -> Tensor:
    """The first 32-bit word, for counter words (counter, 0, 0, 0)."""
    low = (1 << 32) - 1
    key0, key1 = seed & low, (seed >> 32) & low
    zero = torch.zeros_like(counter + seed)
    c0, c1, c2, c3 = (counter & low) + zero, zero, zero, zero
    for _ in range(10):
        high_a, low_a = _multiply(0xD2511F53, c0)
        high_b, low_b = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high_b ^ c1 ^ key0, low_b, high_a ^ c3 ^ key1, low_a
        key0, key1 = (key0 + 0x9E3779B9) & low, (key1 + 0xBB67AE85) & low
    return c0


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low words of a 32 × 32-bit product, in 64-bit signed arithmetic."""
    top, bottom = a * (b >> 16), a * (b & 0xFFFF)
    whole = (top & 0xFFFF) * (1 << 16) + bottom
    return (top >> 16) + (whole >> 32), whole & ((1 << 32) - 1)
