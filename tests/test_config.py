from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.config import Config, camel, parse, surroundings

KEYS = [camel(f.name) for f in fields(Config)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_no_settings_mean_the_defaults_and_no_complaint() -> None:
    assert parse(None) == (Config(), ())
    assert parse({}) == (Config(), ())


def test_settings_are_read_in_camel_case_bare_or_under_the_section() -> None:
    sent = {"deadlineMs": 80, "qualitySpeedTradeoff": 1, "disabledLanguages": ["markdown"]}
    expected = Config(deadline_ms=80, quality_speed_tradeoff=1.0, disabled_languages=("markdown",))
    assert parse(sent) == (expected, ())
    assert parse({"mercury": sent}) == (expected, ())


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ({"deadlineMs": "fast"}, "mercury.deadlineMs must be a number; 150 is used."),
        ({"deadlineMs": True}, "mercury.deadlineMs must be a number; 150 is used."),
        ({"deadlineMs": float("inf")}, "mercury.deadlineMs must be a number; 150 is used."),
        (
            {"qualitySpeedTradeoff": float("nan")},
            "mercury.qualitySpeedTradeoff must be a number; 0.5 is used.",
        ),
        ({"deadlineMs": 10**400}, "mercury.deadlineMs must lie between 1 and 60000; 150 is used."),
        ({"deadlineMs": 0.5}, "mercury.deadlineMs must be a whole number; 150 is used."),
        ({"deadlineMs": -1}, "mercury.deadlineMs must lie between 1 and 60000; 150 is used."),
        ({"enable": 1}, "mercury.enable must be true or false; True is used."),
        ({"model": None}, "mercury.model must be a string; 'mini' is used."),
        (
            {"disabledLanguages": "python"},
            "mercury.disabledLanguages must be a list of strings; () is used.",
        ),
        ({"dial": 1}, "Unknown setting mercury.dial; it is ignored."),
        ([1], "Settings must be an object, not list; they are ignored."),
    ],
)
def test_a_bad_setting_keeps_its_default_and_is_named(sent: object, complaint: str) -> None:
    assert parse(sent) == (Config(), (complaint,))


def test_a_bad_setting_does_not_take_the_good_ones_with_it() -> None:
    config, problems = parse({"deadlineMs": "fast", "maxTokens": 12})
    assert config == Config(max_tokens=12)
    assert len(problems) == 1


def test_a_change_of_settings_builds_on_what_was_set_before() -> None:
    before, _ = parse({"maxTokens": 12})
    after, _ = parse({"deadlineMs": 90}, before)
    assert after == Config(max_tokens=12, deadline_ms=90)


@given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_nothing_an_editor_sends_makes_parsing_fail(sent: object) -> None:
    config, problems = parse(sent)
    assert isinstance(config, Config)
    assert all(problem.endswith((".", "used.")) for problem in problems)


@pytest.mark.parametrize("switch", ["MERCURY_OFFLINE", "HF_HUB_OFFLINE", "PIP_NO_INDEX"])
def test_any_offline_switch_forbids_the_network(switch: str) -> None:
    assert surroundings({switch: "1"}).offline
    assert not surroundings({switch: "0"}).offline
    assert not surroundings({}).offline
