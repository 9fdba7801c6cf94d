"""What followed elsewhere, and how it is weighed against what the network expects."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.lookup import (
    DECAY,
    MAX_MATCH_BYTES,
    MAX_MATCHES,
    MIN_MATCH_BYTES,
    CacheLM,
    LookupCandidates,
    interpolate,
)
from mercury_model.decoding.speculative import DraftTokens
from mercury_model.runtime.protocol import Predictions
from mercury_model.spec.card import CacheTrust

END = 0
TRUST = CacheTrust(always=-4.0, length=1.0, agreed=1.0, sure=-2.0)
texts = st.text("ab(\N{EURO SIGN}\N{GRINNING FACE}\n", max_size=50)


def candidates(before: str, *texts: str) -> LookupCandidates:
    """With a character as a token."""
    return CacheLM(texts, lambda text: [ord(letter) for letter in text]).candidates(before)


def spelt(found: LookupCandidates) -> dict[str, float]:
    return {chr(token): weight for token, weight in found.tokens.items()}


def lessened(less: int) -> float:
    """The weight of a match that is so many bytes shorter than the longest."""
    return math.exp(-DECAY * less)


def predictions(**chances: float) -> Predictions:
    """Of letters; `end` is the end mark."""
    best = sorted(chances.items(), key=lambda item: -item[1])
    ids = [END if name == "end" else ord(name) for name, _ in best]
    probs = np.array([[chance for _, chance in best]], np.float32)
    return Predictions(np.array([ids]), probs, np.array([0.7], np.float32))


def chance(found: Predictions, letter: str) -> float:
    return dict(zip(found.ids[0].tolist(), found.probs[0].tolist(), strict=True))[ord(letter)]


def test_a_longer_match_weighs_more() -> None:
    found = candidates("x = self.na", "self.name", "y = self.nb", "x = self.nap")
    assert found.length == len("x = self.na")
    assert spelt(found) == pytest.approx({"p": 1, "m": lessened(len("x = "))})


def test_how_far_a_line_is_indented_says_little() -> None:
    found = candidates("\n    a", "\n    ab", ";\n  ac")
    assert (found.length, spelt(found)) == (len(" a"), {"b": 1, "c": 1})


def test_each_of_the_longest_matches_gives_a_candidate() -> None:
    assert spelt(candidates("call(", "call(a);call(b)", "call(a)")) == {"a": 2, "b": 1}


def test_texts_do_not_run_into_each_other() -> None:
    assert candidates("call(", "call(", "b").tokens == {}
    assert candidates("ab", "a", "bc").tokens == {}


def test_the_nearest_places_are_the_last_ones() -> None:
    far, near = "call(a) " * MAX_MATCHES, "call(b) " * MAX_MATCHES
    assert spelt(candidates("call(", far, near)) == {"b": MAX_MATCHES}


@pytest.mark.parametrize("before", ["", "a", "ab", "zzz", "(zz"])
def test_little_in_common_says_nothing(before: str) -> None:
    assert candidates(before, "abcab").tokens == {}


@pytest.mark.parametrize("written", [(), ("",), ("a",), ("abc",)])
def test_there_may_be_hardly_any_text(written: tuple[str, ...]) -> None:
    assert candidates("abc", *written).tokens == {}


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    assert candidates("abc\ud800", "abc\ud800d").tokens


@given(texts, st.lists(texts, max_size=3))
def test_the_longest_matches_give_the_tokens_after_them_as_candidates(
    before: str, written: list[str]
) -> None:
    found = candidates(before, *written)
    places = [
        (common(text.encode()[:at], before.encode()), text.encode()[at:].decode()[:1])
        for text in written
        for at in range(1, len(text.encode()))
        if common(text.encode()[:at], before.encode()) >= MIN_MATCH_BYTES
    ]
    nearest = sorted(enumerate(places), key=lambda place: (-place[1][0], -place[0]))[:MAX_MATCHES]
    counted = [(squeezed(before, length), letter) for _, (length, letter) in nearest]
    expected: Counter[str] = Counter()
    for length, letter in counted:
        expected[letter] += lessened(counted[0][0] - length)
    assert found.length == (counted[0][0] if counted else 0)
    assert spelt(found) == pytest.approx(expected)


def common(one: bytes, other: bytes) -> int:
    """How many bytes both end with, at most LONGEST."""
    pairs = zip(reversed(one), reversed(other[-MAX_MATCH_BYTES:]), strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other), MAX_MATCH_BYTES)
    )


def squeezed(before: str, length: int) -> int:
    return len(re.sub(rb"\s+", b" ", before.encode()[-length:]))


def drafted(before: str, *texts: str, most: int = 5) -> DraftTokens:
    return CacheLM(texts, lambda text: [ord(letter) for letter in text]).draft(before, "", most)


def test_the_draft_follows_the_last_of_the_longest_matches() -> None:
    found = drafted("x = self.na", "self.nothing", "x = self.name", "x = self.nap")
    assert "".join(map(chr, found.ids)) == "p"
    assert "".join(map(chr, drafted("x = ", "x = 1 + 23456").ids)) == "1 + 2"


def test_a_draft_token_is_likelier_after_a_longer_match() -> None:
    chances = drafted("value = ", "value = 12345").chances
    assert list(chances) == sorted(chances)
    assert drafted("a_longer_value = ", "a_longer_value = 1").chances[0] > chances[0]
    assert 0 < chances[0] < chances[-1] < 1


@pytest.mark.parametrize("most", [0, 3])
def test_there_is_no_draft_without_a_match(most: int) -> None:
    found = drafted("abc", "abc", "xyz", most=most)
    assert (found.ids, len(found.chances)) == ([], 0)


def test_the_mean_is_a_distribution_that_leaves_the_end_to_the_network() -> None:
    network = predictions(a=0.5, b=0.3, end=0.2)
    both = interpolate(network, LookupCandidates(20, {ord("c"): 3, ord("b"): 1}), TRUST, {END})
    weight = 1 / (1 + math.exp(-(-4 + math.log(20) + 3 / 4 - 2 * 0.5)))
    assert chance(both, "a") == pytest.approx(0.5 * (1 - weight))
    assert chance(both, "b") == pytest.approx(0.3 * (1 - weight) + 0.8 * weight / 4)
    assert both.probs.tolist() == [sorted(both.probs[0].tolist(), reverse=True)]
    assert both.ids.shape == network.ids.shape
    assert both.entropy is network.entropy
    ends = [dict(zip(p.ids[0].tolist(), p.probs[0].tolist(), strict=True)) for p in (network, both)]
    assert ends[0][END] == ends[1][END]


def test_agreeing_candidates_and_an_unsure_network_give_the_lookup_more_weight() -> None:
    def weight(found: LookupCandidates, surest: float) -> float:
        network = predictions(a=surest, b=0.001, end=0.0)
        return 1 - chance(interpolate(network, found, TRUST, {END}), "a") / surest

    alone = weight(LookupCandidates(9, {1: 4}), 0.4)
    assert weight(LookupCandidates(9, {1: 3, 2: 1}), 0.4) < alone
    assert weight(LookupCandidates(4, {1: 4}), 0.4) < alone
    assert weight(LookupCandidates(9, {1: 4}), 0.8) < alone


def test_without_candidates_the_network_decides_alone() -> None:
    network = predictions(a=0.5, end=0.2)
    assert interpolate(network, LookupCandidates(), TRUST, {END}) is network
