"""Parses the settings of an evaluation from the command line."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from mercury_lsp.errors import SettingsError
from mercury_model import noise
from mercury_model.decoding import unmasking
from mercury_model.decoding.params import SamplingParams


def _scheduled(schedule: noise.Schedule, steps: float) -> unmasking.Policy:
    return unmasking.Scheduled(int(steps), schedule)


POLICIES: Mapping[str, Callable[[float], unmasking.Policy]] = {
    "threshold": unmasking.Threshold,
    "entropy": unmasking.EntropyBound,
    "klass": unmasking.Klass,
    "top": lambda count: unmasking.TopK(int(count)),
    **{name: partial(_scheduled, schedule) for name, schedule in noise.SCHEDULES.items()},
}
"""Unmasking policies by name. The number is a confidence threshold, an entropy bound in nats, the
confidence threshold of KLASS, the tokens per step, or the steps per block."""

REMASK = ",remask:"
WITHOUT_LOOKUP = ",alone"
"""Suffix of a setting that disables the cache language model."""


def sampling(name: str) -> SamplingParams:
    """Parse `autoregressive`, `verified`, a tradeoff from 0 to 1, or a policy like `threshold:0.9`.

    `top:2,remask:0.5` remasks tokens that were committed with less confidence. `verified,alone`
    disables the cache language model. Raises SettingsError for an unknown name.
    """
    stripped = name.removesuffix(WITHOUT_LOOKUP)
    if stripped != name:
        return replace(sampling(stripped), repeats=False)
    if name == "autoregressive":
        return SamplingParams(mode="autoregressive")
    if name == "verified":
        return SamplingParams(mode="verified")
    head, has_remask, confidence = name.partition(REMASK)
    policy, colon, number = head.rpartition(":")
    try:
        value = float(number)
        remask = unmasking.Remask(float(confidence)) if has_remask else None
        if policy in POLICIES and value > 0:
            return SamplingParams(policy=POLICIES[policy](value), remask=remask)
        if not colon and not has_remask and 0 <= value <= 1:
            return SamplingParams(quality_speed_tradeoff=value)
    except ValueError:
        pass
    known = ", ".join(f"{policy}:NUMBER" for policy in POLICIES)
    raise SettingsError(
        f"Unknown setting: {name}.",
        f"Use autoregressive, verified, a number from 0 to 1, or {known}; {REMASK}CONFIDENCE and"
        f" {WITHOUT_LOOKUP} may follow.",
    )
