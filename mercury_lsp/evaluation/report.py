"""The report of an evaluation by setting, kind and language, with confidence intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mercury_lsp.evaluation import scores
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case
from mercury_lsp.evaluation.measure import Outcome
from mercury_lsp.evaluation.offers import DISTRACTIONS

SHOWN_SHARE = 0.4
CONFIDENCE_THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
REFERENCE = "autoregressive"

Pairs = Sequence[tuple[Case, Outcome]]


def document(cases: Sequence[Case], runs: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """The report as JSON values. `runs` maps a setting to its outcomes, in the order of `cases`."""
    return {
        "cases": len(cases),
        "settings": {
            name: _setting(cases, outcomes, runs.get(REFERENCE)) for name, outcomes in runs.items()
        },
    }


def _setting(
    cases: Sequence[Case],
    outcomes: Sequence[Outcome],
    reference: Sequence[Outcome] | None,
) -> dict[str, Any]:
    pairs = list(zip(cases, outcomes, strict=True))
    single = [pair for pair in pairs if pair[0].kind in SINGLE_LINE]
    result = {
        "all": _summary(pairs),
        "single_line": _summary(single),
        "single_line_python": _summary([p for p in single if p[0].language == "python"]),
        "by_kind": _grouped(pairs, lambda case: case.kind.value),
        "by_language": _grouped(pairs, lambda case: case.language),
        "tokens_per_step": _tokens_per_step(pairs),
        "tokens_per_second": round(_tokens_per_second(outcomes), 1),
        "calibration": calibration(single),
    }
    if reference is not None and reference is not outcomes:
        differences = [
            float(mine.exact) - float(theirs.exact)
            for mine, theirs in zip(outcomes, reference, strict=True)
        ]
        result["exact_less_autoregressive"] = asdict(scores.interval(differences))
        speed = _tokens_per_second(outcomes) / _tokens_per_second(reference)
        result["speed_over_autoregressive"] = round(speed, 3)
    return result


def _tokens_per_step(pairs: Pairs) -> float:
    steps = sum(outcome.steps for _, outcome in pairs)
    return round(sum(outcome.tokens for _, outcome in pairs) / max(1, steps), 3)


def _tokens_per_second(outcomes: Sequence[Outcome]) -> float:
    seconds = sum(outcome.seconds for outcome in outcomes)
    return sum(outcome.tokens for outcome in outcomes) / max(seconds, 1e-9)


def _grouped(pairs: Pairs, key: Any) -> dict[str, Any]:
    groups = scores.group_by(pairs, lambda pair: str(key(pair[0])))
    return {name: _summary(groups[name]) for name in sorted(groups)}


def _summary(pairs: Pairs) -> dict[str, Any]:
    outcomes = [outcome for _, outcome in pairs]
    count = max(1, len(outcomes))
    known = [o.parses for o in outcomes if o.parses is not None]
    return {
        "count": len(outcomes),
        "exact": asdict(scores.interval([float(o.exact) for o in outcomes])),
        "similarity": round(sum(o.similarity for o in outcomes) / count, 4),
        "parses": round(sum(known) / max(1, len(known)), 4),
        "length_error": round(sum(abs(o.length_error) for o in outcomes) / count, 2),
        "too_long": round(sum(o.length_error > 0 for o in outcomes) / count, 4),
        "ended": round(sum(o.ended for o in outcomes) / count, 4),
        "expected_calibration_error": scores.calibration_error(
            scores.reliability(*_confidences(pairs))
        ),
        "offered": _offered(outcomes),
        "milliseconds": round(1000 * sum(o.seconds for o in outcomes) / count, 1),
    }


def calibration(pairs: Pairs) -> dict[str, Any]:
    """How well the confidences predict which completions are right."""
    confidences, right = _confidences(pairs)
    bins = scores.reliability(confidences, right)
    return {
        "bins": [asdict(b) for b in bins],
        "expected_calibration_error": scores.calibration_error(bins),
        "silence": [
            asdict(scores.silence(least, confidences, right)) for least in CONFIDENCE_THRESHOLDS
        ],
        f"right_of_surest_{SHOWN_SHARE:.0%}": scores.precision_at(SHOWN_SHARE, confidences, right),
    }


def _offered(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Per distraction: the share shown, the share of those right, and keys saved per gap."""
    rows = []
    for index, distraction in enumerate(DISTRACTIONS):
        offers = [outcome.offers[index] for outcome in outcomes]
        shown = [offer for offer in offers if offer is not None]
        rows.append(
            {
                "distraction": distraction,
                "shown": round(len(shown) / max(1, len(offers)), 4),
                "right": asdict(scores.interval([float(offer.right) for offer in shown])),
                "saved": round(sum(offer.saved for offer in shown) / max(1, len(offers)), 2),
            }
        )
    return rows


def _confidences(pairs: Pairs) -> tuple[list[float], list[bool]]:
    """The confidence of each outcome, and whether it was right."""
    return [o.confidence for _, o in pairs], [o.exact for _, o in pairs]
