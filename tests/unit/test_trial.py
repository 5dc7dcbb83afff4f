"""A trial reads with what would be served, on the lines that count, and keeps the verdict."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import store_parts
import tiny_bundle
from trial_house import House

from redpencil import trial
from redpencil.ids import new_id
from redpencil.types import Doubt, Outcome, Precision, Split, Verdict


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.store.close()


def test_a_first_version_is_judged_on_the_golden_lines_alone(house: House) -> None:
    house.version("1")
    verdict = house.judge("1")
    assert verdict.outcome is Outcome.PASSED
    assert (verdict.candidate, verdict.champion) == ("1", "")
    assert verdict.scores["golden"]["cer"] == {"champion": None, "candidate": 0.0, "int8": 0.0, "fp32": 0.0}


def test_the_verdict_is_kept(house: House) -> None:
    house.version("1")
    assert house.judge("1") == house.store.versions.verdict("ocr", "1")


def test_the_champion_itself_has_no_opponent(house: House) -> None:
    house.version("1")
    house.serve("1")
    assert house.judge("1").champion == ""


def test_a_better_version_fixes_what_the_champion_read_wrong(house: House) -> None:
    house.version("1", misread={"e": "c"})
    house.serve("1")
    held = [c for n in range(12) for c in house.correct(f"every {tiny_bundle.ALPHABET[n]}", Split.HOLDOUT)]
    learned = house.correct("free", Split.TRAIN, lines=3)
    house.version("2", parent="1", learned=True)
    verdict = house.judge("2")
    assert verdict.outcome is Outcome.PASSED
    assert verdict.champion == "1"
    assert verdict.items == {c.id: "fixed" for c in [*held, *learned]}
    assert verdict.scores["holdout"]["documents"] == 12
    assert verdict.scores["trained"]["lines"] == 3
    graphemes = verdict.scores["graphemes"]
    assert graphemes["holdout"]["candidate"] == {"cer": 0.0}
    assert graphemes["holdout"]["champion"]["cer"] == verdict.scores["holdout"]["cer"]["champion"] > 0


def test_a_version_that_forgets_does_not_pass(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2", misread={"o": "a"})
    assert house.judge("2").outcome is not Outcome.PASSED


def test_small_losses_are_held_against_what_was_served_first(house: House) -> None:
    def told(verdict: Verdict) -> str:
        return " ".join(said for said in verdict.reasons if "small losses add up" in said)

    house.version("1")
    house.judge("1")
    house.serve("1")
    house.version("2", misread={"o": "a"})
    house.serve("2")
    house.judge("2")
    house.version("3", misread={"o": "a"})
    house.version("4", misread={"o": "a", "l": "i"})
    assert told(house.judge("3")) == "", "its champion reads no better"
    assert "rose from 0.00 %" in told(house.judge("4"))
    decide(house, "override", "2", "1")
    assert "rose from 0.00 %" not in told(house.judge("4")), "somebody chose so"
    decide(house, "rollback", "1", "2")
    decide(house, "promote", "2", "1")
    assert "rose from 0.00 %" in told(house.judge("4")), "and took it back"


def decide(house: House, action: str, to: str, before: str) -> None:
    now = house.store.serving.get("ocr")
    said = store_parts.entry(action, from_version=before, to_version=to)
    house.store.serving.change(replace(now, revision=now.revision + 1, champion=to), said)


def test_held_out_lines_that_judged_the_champion_need_not_show_the_next_gain(house: House) -> None:
    house.version("1", misread={"e": "c"})
    house.serve("1")
    held = [house.correct(f"every {tiny_bundle.ALPHABET[n]}", Split.HOLDOUT)[0] for n in range(12)]
    house.correct("free", Split.TRAIN)
    house.version("2", parent="1", learned=True, misread={"m": "n"})
    house.serve("2")
    (new,) = house.correct("more", Split.TRAIN)
    again = [replace(c, id=new_id("corr"), author="eve") for c in held[:10]]
    house.store.corrections.add_many(again)  # the same places corrected anew are not new to the gate
    house.version("3", parent="2", learned=True)
    verdict = house.judge("3")
    assert verdict.items[new.id] == "fixed"
    assert verdict.outcome is Outcome.PASSED
    assert any("only 0 of them came since the champion" in said for said in verdict.reasons)
    for n in range(10):
        house.correct(f"same {tiny_bundle.ALPHABET[n]}", Split.HOLDOUT)
    verdict = house.judge("3")
    assert any("On 22 held-out corrected lines CER fell" in said for said in verdict.reasons)


def test_what_an_ancestor_learned_is_read_too(house: House) -> None:
    house.version("1")
    (first,) = house.correct("first", Split.TRAIN)
    house.version("2", parent="1", learned=True)
    house.version("3", parent="2")
    house.serve("1")
    assert house.judge("3").items == {first.id: "still_right"}


def test_a_revoked_correction_is_no_truth_to_be_judged_by(house: House) -> None:
    house.version("1")
    house.serve("1")
    (wrong,) = house.correct("wrong", Split.TRAIN)
    house.version("2", parent="1", learned=True)
    house.store.corrections.revoke(wrong.id, "ann", "another line")
    assert house.judge("2").items == {}


def test_corrections_that_nobody_learned_from_do_not_count_as_trained(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2", parent="1")
    house.correct("after", Split.TRAIN)
    assert house.judge("2").scores["trained"]["lines"] == 0


def test_what_the_run_left_out_does_not_count_as_trained(house: House) -> None:
    house.version("1")
    house.serve("1")
    (kept,), (odd,) = house.correct("kept", Split.TRAIN), house.correct("odd", Split.TRAIN)
    work = store_parts.run()
    house.store.runs.add(work)
    house.store.doubts.add_many([Doubt(work.id, odd.id, 1.0, 0.9, True)])
    house.version("2", parent="1", learned=True, run=work.id)
    assert house.judge("2").items == {kept.id: "still_right"}


def test_int8_that_reads_worse_leaves_fp32_to_be_served(house: House) -> None:
    house.version("1", misread_int8={"d": "b"})
    assert house.judge("1").precision is Precision.FP32
    assert trial.served_precision(house.store, "ocr", "1") is Precision.FP32


def test_the_champion_reads_in_the_precision_in_which_it_is_served(house: House) -> None:
    house.version("1", misread_int8={"d": "b"})
    house.judge("1")
    house.serve("1")
    house.version("2")
    assert house.judge("2").scores["golden"]["cer"]["champion"] == 0.0


def test_nothing_is_said_of_the_precision_of_a_version_without_verdict(house: House) -> None:
    house.version("1")
    assert trial.served_precision(house.store, "ocr", "1") is None


def test_of_too_many_lines_the_newest_are_read_and_the_verdict_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.version("1")
    house.serve("1")
    held = house.correct("line", Split.HOLDOUT, lines=5)
    house.version("2", parent="1")
    monkeypatch.setattr(trial, "MOST_LINES", 3)
    verdict = house.judge("2")
    assert set(verdict.items) == {c.id for c in held[2:]}
    assert "Of 5 held-out corrected lines the newest 3 were read." in verdict.reasons


def test_every_reader_is_timed_on_every_line(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2")
    timed = house.judge("2").scores["latency"]
    assert all(timed[name] > 0 for name in ("champion", "candidate", "int8", "fp32"))
