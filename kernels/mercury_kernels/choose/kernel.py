"""`choose` for the GPU: one program for each position ranks its candidates pairwise."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from mercury_kernels.check import TensorMismatch, require
from mercury_kernels.choose.reference import Choices, SamplingTensors
from mercury_kernels.head.reference import Predicted
from mercury_kernels.launch import Launch, Submit, run


@triton.jit(do_not_specialize=["length", "eos_id", "shift", "forbidden_count"])
def choose_token(
    candidates, logits, lse, entropies, ids, seeds, start, temperature, rank, forbidden,
    tokens, confidence, entropy, length, eos_id, shift, forbidden_count,
    TOP: tl.constexpr, WIDTH: tl.constexpr, BANNED: tl.constexpr,
):  # fmt: skip
    """token = argmax_k (logit_k / temperature + gumbel(seed, position, k)) over allowed k < TOP."""
    place = tl.program_id(0)
    sequence, t = place // length, place % length
    if t < shift:
        tl.store(tokens + place, tl.load(ids + place))
        tl.store(confidence + place, 1.0)
        tl.store(entropy + place, 0.0)
    else:
        row = (place - shift).to(tl.int64)
        k = tl.arange(0, WIDTH)
        inside = k < TOP
        token = tl.load(candidates + row * TOP + k, mask=inside, other=-1)
        logit = tl.load(logits + row * TOP + k, mask=inside, other=-float("inf"))
        chance = tl.exp(logit - tl.load(lse + row))
        position = tl.load(start + sequence) + t
        warm = tl.load(temperature + sequence)
        uniform = tl.rand(tl.load(seeds + sequence), position * TOP + k)
        drawn = -tl.log(-tl.log(tl.maximum(uniform, 1e-10)))
        score = tl.where(warm > 0, logit / tl.maximum(warm, 1e-30) + drawn, logit)
        f = tl.arange(0, BANNED)
        banned = tl.load(forbidden + f, mask=f < forbidden_count, other=-1)
        hits = tl.sum((token[:, None] == banned[None, :]).to(tl.int32), 1)
        allowed = inside & (hits == 0)
        score = tl.where(allowed, score, -float("inf"))

        better = (score[None, :] > score[:, None]) | (
            (score[None, :] == score[:, None]) & (k[None, :] < k[:, None])
        )
        order = tl.sum((better & allowed[None, :]).to(tl.int32), 1)
        count = tl.sum(allowed.to(tl.int32), 0)
        passed = tl.where(position == 0, tl.load(rank + sequence), 0)
        passed = tl.minimum(passed, tl.maximum(count - 1, 0))
        picked = allowed & (order == passed)
        chosen = tl.sum(tl.where(picked, token, 0), 0)
        sure = tl.sum(tl.where(picked, chance, 0.0), 0)
        tl.store(tokens + place, tl.where(count > 0, chosen, eos_id))
        tl.store(confidence + place, sure)
        tl.store(entropy + place, tl.load(entropies + row))


def choose(
    predicted: Predicted,
    ids: Tensor,
    sampling: SamplingTensors,
    forbidden: Tensor,
    eos_id: int,
    shift: int,
    submit: Submit = run,
) -> Choices:
    """See `reference.choose`. Raises TensorMismatch naming a tensor that does not fit."""
    require("ids", ids, [None, None], [torch.int32])
    batch, length = ids.shape
    rows = batch * length
    require("predicted.ids", predicted.ids, [rows, None], [torch.int32], ids)
    require("predicted.logits", predicted.logits, predicted.ids.shape, [torch.float32], ids)
    require("predicted.lse", predicted.lse, [rows], [torch.float32], ids)
    require("predicted.entropy", predicted.entropy, [rows], [torch.float32], ids)
    require("sampling.seeds", sampling.seeds, [batch], [torch.int64], ids)
    require("sampling.start", sampling.start, [batch], [torch.int32], ids)
    require("sampling.temperature", sampling.temperature, [batch], [torch.float32], ids)
    require("sampling.rank", sampling.rank, [batch], [torch.int32], ids)
    require("forbidden", forbidden, [None], [torch.int32], ids)
    if not 0 <= shift <= length:
        raise TensorMismatch(f"ids has blocks of {length}; they cannot be shifted by {shift}")
    top = predicted.ids.shape[1]
    out = Choices(
        tokens=torch.empty_like(ids),
        confidence=torch.empty(ids.shape, dtype=torch.float32, device=ids.device),
        entropy=torch.empty(ids.shape, dtype=torch.float32, device=ids.device),
    )
    arguments = {
        "candidates": predicted.ids,
        "logits": predicted.logits,
        "lse": predicted.lse,
        "entropies": predicted.entropy,
        "ids": ids,
        "seeds": sampling.seeds,
        "start": sampling.start,
        "temperature": sampling.temperature,
        "rank": sampling.rank,
        "forbidden": forbidden,
        "tokens": out.tokens,
        "confidence": out.confidence,
        "entropy": out.entropy,
        "length": length,
        "eos_id": eos_id,
        "shift": shift,
        "forbidden_count": forbidden.shape[0],
        "TOP": top,
        "WIDTH": triton.next_power_of_2(top),
        "BANNED": triton.next_power_of_2(max(forbidden.shape[0], 1)),
    }
    submit(Launch(choose_token, (rows,), arguments, warps=1))
    return out
