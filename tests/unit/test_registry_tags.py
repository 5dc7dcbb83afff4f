"""What the registry writes about a verdict."""

from redpencil.registry import verdict_tags
from redpencil.types import Outcome, Precision, Verdict

VERDICT = Verdict(
    outcome=Outcome.PASSED,
    reasons=("holdout CER 7.9% -> 2.0%", "golden set unchanged"),
    precision=Precision.INT8,
    scores={"holdout": {"lines": 20, "cer": 0.02}, "speed": 1.9},
    items={"corr_1": "fixed", "corr_2": "fixed", "corr_3": "still_wrong"},
    champion="1",
)


def test_the_tags_say_outcome_reasons_and_precision() -> None:
    assert verdict_tags(VERDICT) == {
        "gate.verdict": "passed",
        "gate.reasons": "holdout CER 7.9% -> 2.0%; golden set unchanged",
        "precision": "int8",
    }


def test_a_tag_never_exceeds_what_mlflow_takes() -> None:
    many = Verdict(Outcome.FAILED, ("x" * 4000, "y" * 4000), Precision.FP32, {}, {})
    assert len(verdict_tags(many)["gate.reasons"]) == 5000
