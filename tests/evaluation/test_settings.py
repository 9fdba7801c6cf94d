import pytest

from mercury_lsp.errors import SettingsError
from mercury_lsp.evaluation.settings import sampling
from mercury_model import noise
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.unmasking import EntropyBound, Klass, Remask, Scheduled, Threshold, TopK


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("autoregressive", SamplingParams(mode="autoregressive")),
        ("verified", SamplingParams(mode="verified")),
        ("0.25", SamplingParams(quality_speed_tradeoff=0.25)),
        ("threshold:0.9", SamplingParams(policy=Threshold(0.9))),
        ("entropy:0.5", SamplingParams(policy=EntropyBound(0.5))),
        ("klass:0.6", SamplingParams(policy=Klass(0.6))),
        ("top:2", SamplingParams(policy=TopK(2))),
        ("top:2,remask:0.5", SamplingParams(policy=TopK(2), remask=Remask(0.5))),
        ("verified,alone", SamplingParams(mode="verified", repeats=False)),
        (
            "top:2,remask:0.5,alone",
            SamplingParams(policy=TopK(2), remask=Remask(0.5), repeats=False),
        ),
        ("linear:4", SamplingParams(policy=Scheduled(4, noise.Linear()))),
        ("log-linear:4", SamplingParams(policy=Scheduled(4, noise.LogLinear()))),
        ("cosine:4", SamplingParams(policy=Scheduled(4, noise.Cosine()))),
    ],
)
def test_a_setting_is_parsed_from_its_name(name: str, expected: SamplingParams) -> None:
    assert sampling(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "fast",
        "1.5",
        "-0.1",
        "nan",
        "top:0",
        "top:two",
        "best:3",
        ":1",
        "0.5,remask:0.5",
        "top:2,remask:",
    ],
)
def test_an_unknown_setting_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SettingsError, match="threshold:NUMBER"):
        sampling(name)
