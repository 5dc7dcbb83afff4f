"""Lineage: from any thing to where it came from and to what came of it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_parts import about, block, correction, entry, image, new_store, prediction, run, verdict, version

from redpencil import snapshot
from redpencil.errors import NotFound
from redpencil.lineage import trace
from redpencil.store import Store
from redpencil.types import Doubt, RunState, Split, Task, Variant


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def loop(store: Store) -> SimpleNamespace:
    """Version 1 answered, ann corrected, a run learned from that, and version 2 was made champion."""
    group = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.TRAIN)
    picture = image("a", group)
    answer = prediction(picture, blocks=(block(0), block(1)))
    shadow = prediction(picture, version="2", variant=Variant.CHALLENGER, mirror_of=answer.id)
    store.versions.add(version("1", bundle="base"))
    store.predictions.add_many([(picture, answer), (picture, shadow)])
    said = about(answer, picture, text="the")
    store.corrections.add_many([said])
    frozen = snapshot.take(store, Task.OCR)
    work = run(state=RunState.SUCCEEDED, snapshot=frozen.id, version="2", params={"steps": 3})
    store.runs.add(work)
    store.versions.add(version("2", parent="1", snapshot=frozen.id, run=work.id, created_at=2.0))
    store.versions.put_verdict("ocr", "2", verdict())
    store.ledger.append(entry("promote", to_version="2", why="reads better"))
    return SimpleNamespace(answer=answer, shadow=shadow, said=said, frozen=frozen, work=work, group=group)


def test_a_prediction_leads_to_the_version_that_learned_from_its_correction(
    store: Store, loop: SimpleNamespace
) -> None:
    tree = trace(store, loop.answer.id)
    assert (tree["group"], tree["side"], tree["variant"]) == (loop.group, "train", "champion")
    assert tree["came_from"]["version"]["version"] == "ocr/1"
    assert tree["came_from"]["version"]["bundle"] == "base"
    assert tree["led_to"]["mirrored_as"] == loop.shadow.id
    [fate] = tree["led_to"]["corrections"]
    assert (fate["correction"], fate["state"], fate["learned_by"]) == (loop.said.id, "deployed", ["ocr/2"])
    assert fate["snapshots"] == [{"snapshot": loop.frozen.id, "side": "train"}]
    assert fate["deployed"][0]["why"] == "reads better"


def test_a_mirrored_answer_names_the_one_it_shadows(store: Store, loop: SimpleNamespace) -> None:
    origin = trace(store, loop.shadow.id)["came_from"]
    assert origin["mirror_of"] == loop.answer.id
    assert origin["version"]["ancestors"] == ["ocr/1"]
    assert origin["version"]["run"] == loop.work.id


def test_a_correction_names_what_it_corrects_and_who_learned_from_it(
    store: Store, loop: SimpleNamespace
) -> None:
    tree = trace(store, loop.said.id)
    assert (tree["author"], tree["text"], tree["state"]) == ("ann", "the", "deployed")
    assert tree["came_from"]["prediction"] == loop.answer.id
    assert tree["came_from"]["predicted"] == "teh"
    assert tree["came_from"]["version"]["version"] == "ocr/1"
    assert tree["led_to"]["learned_by"] == ["ocr/2"]


def test_a_revoked_correction_says_who_revoked_it_and_who_had_learned_from_it(
    store: Store, loop: SimpleNamespace
) -> None:
    store.corrections.revoke(loop.said.id, "bob", "another hand")
    tree = trace(store, loop.said.id)
    assert tree["state"] == "revoked"
    assert tree["led_to"]["revoked"]["who"] == "bob"
    assert tree["led_to"]["learned_by"] == ["ocr/2"]


def test_a_correction_without_prediction_comes_from_its_image(store: Store, loop: SimpleNamespace) -> None:
    typed = correction(image("a"))
    store.corrections.add_many([typed])
    assert trace(store, typed.id)["came_from"].keys() == {"image", "group", "side"}


def test_a_snapshot_names_its_corrections_runs_and_versions(store: Store, loop: SimpleNamespace) -> None:
    tree = trace(store, loop.frozen.id)
    assert tree["came_from"]["corrections"] == {"train": [loop.said.id], "holdout": []}
    assert [r["run"] for r in tree["led_to"]["runs"]] == [loop.work.id]
    assert [v["version"] for v in tree["led_to"]["versions"]] == ["ocr/2"]


def test_a_run_names_its_snapshot_and_version(store: Store, loop: SimpleNamespace) -> None:
    tree = trace(store, loop.work.id)
    assert (tree["state"], tree["came_from"]["params"]) == ("succeeded", {"steps": 3})
    assert tree["came_from"]["snapshot"]["corrections"]["train"] == [loop.said.id]
    assert tree["led_to"]["version"]["verdict"] == "passed"


def test_a_run_that_has_only_been_asked_for_has_a_lineage_too(store: Store) -> None:
    waiting = run(trigger="cron")
    store.runs.add(waiting)
    tree = trace(store, waiting.id)
    assert (tree["came_from"]["trigger"], tree["led_to"]) == ("cron", {})


def test_a_version_names_its_roots_and_its_fruits(store: Store, loop: SimpleNamespace) -> None:
    tree = trace(store, "ocr/2")
    assert (tree["verdict"], tree["deployed"][0]["action"]) == ("passed", "promote")
    assert tree["came_from"]["run"] == loop.work.id
    assert tree["came_from"]["ancestors"] == ["ocr/1"]
    assert tree["came_from"]["snapshot"]["corrections"]["train"] == [loop.said.id]
    assert trace(store, "ocr/1")["led_to"] == {"predictions": 1, "grown": ["ocr/2"]}


def test_what_a_run_doubted_is_told_of_the_correction_and_of_the_version(
    store: Store, loop: SimpleNamespace
) -> None:
    store.doubts.add_many([Doubt(loop.work.id, loop.said.id, 1.0, 0.9, True, "another line")])
    tree = trace(store, loop.said.id)["led_to"]
    assert (tree["learned_by"], tree["deployed"]) == ([], [])
    assert tree["doubted"] == {"left_out_by": [{"run": loop.work.id, "why": "another line"}]}
    for id in ("ocr/2", loop.work.id):
        assert trace(store, id)["came_from"]["snapshot"]["left_out"] == [loop.said.id]
    store.doubts.confirm(loop.said.id, "bob", "it is so")
    assert trace(store, loop.said.id)["led_to"]["doubted"]["confirmed"]["who"] == "bob"


@pytest.mark.parametrize("id", ["pred_x", "corr_x", "run_x", "0" * 64, "ocr/9", "/", "", "what is this"])
def test_what_is_not_known_is_not_found(store: Store, id: str) -> None:
    with pytest.raises(NotFound):
        trace(store, id)
