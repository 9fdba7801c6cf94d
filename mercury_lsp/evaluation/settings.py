"""Settings of an evaluation, as the command line names them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mercury_lsp.errors import SettingsError
from mercury_model import noise
from mercury_model.decoding import unmasking
from mercury_model.decoding.params import SamplingParams

POLICIES: Mapping[str, Callable[[float], unmasking.Policy]] = {
    "threshold": unmasking.Threshold,
    "entropy": unmasking.EntropyBound,
    "klass": unmasking.Klass,
    "top": lambda count: unmasking.TopK(int(count)),
    "linear": lambda steps: unmasking.Scheduled(int(steps), noise.Linear()),
    "cosine": lambda steps: unmasking.Scheduled(int(steps), noise.Cosine()),
}
"""What diffusion may commit at each step, given a number: a least confidence, nats that may be
lost, a least confidence of what does not change any more, tokens a step, or steps a block."""

REMASK = ",remask:"
ALONE = ",alone"
"""Without what is repeated elsewhere: the network's own predictions."""


def sampling(name: str) -> SamplingParams:
    """`autoregressive`, `verified`, a dial from 0 to 1, or a policy as `threshold:0.9`.

    `top:2,remask:0.5` masks again what was committed with less confidence; `verified,alone` leaves
    the cache language model out. Raises SettingsError.
    """
    whole = name.removesuffix(ALONE)
    if whole != name:
        return replace(sampling(whole), repeats=False)
    if name == "autoregressive":
        return SamplingParams(mode="autoregressive")
    if name == "verified":
        return SamplingParams(mode="verified")
    head, again, least = name.partition(REMASK)
    policy, colon, number = head.rpartition(":")
    try:
        value = float(number)
        remask = unmasking.Remask(float(least)) if again else None
        if policy in POLICIES and value > 0:
            return SamplingParams(policy=POLICIES[policy](value), remask=remask)
        if not colon and not again and 0 <= value <= 1:
            return SamplingParams(quality_speed_tradeoff=value)
    except ValueError:
        pass
    known = ", ".join(f"{policy}:NUMBER" for policy in POLICIES)
    raise SettingsError(
        f"There is no setting {name}.",
        f"Use autoregressive, verified, a number from 0 to 1, or {known}; {REMASK}CONFIDENCE and"
        f" {ALONE} may follow.",
    )
