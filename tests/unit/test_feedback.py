"""Corrections: kept for good, checked, listed, revoked, moved in bulk."""

import json
from pathlib import Path
from typing import Any

import pytest
from service_house import Client, World, error, post

from redpencil.snapshot import take
from redpencil.types import ModelVersion, Task
from services import feedback


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_a_single_line_needs_no_region(world: World, client: Client) -> None:
    made = world.prediction("helo")
    answer = post(client, {"prediction_id": made.id, "text": "hello"})
    assert answer.status_code == 201
    kept = world.store.corrections.get(answer.json()["id"])
    assert (kept.text, kept.predicted, kept.region, kept.author) == ("hello", "helo", "p0-b0", "ada")
    assert (kept.version, kept.variant, kept.audit_probability) == ("1", "champion", None)


def test_of_several_lines_one_must_be_named_and_the_answer_lists_them(world: World, client: Client) -> None:
    made = world.prediction("one", "two")
    answer = post(client, {"prediction_id": made.id, "text": "uno"})
    assert answer.status_code == 422
    assert "p0-b0, p0-b1" in error(answer)
    assert "p0-b0, p0-b1" in error(post(client, {"prediction_id": made.id, "region": "p0-b7", "text": "x"}))
    assert post(client, {"prediction_id": made.id, "region": "p0-b1", "text": "dos"}).status_code == 201


def test_accept_takes_the_predicted_text(world: World, client: Client) -> None:
    made = world.prediction("right")
    body = {"prediction_id": made.id, "kind": "accept"}
    assert post(client, body).json()["text"] == "right"
    assert post(client, body | {"text": "right"}).status_code == 201
    assert "differs" in error(post(client, body | {"text": "wrong"}))


def test_who_has_not_seen_anothers_correction_is_told_of_it(world: World, client: Client) -> None:
    made = world.prediction("one", "two")
    about = {"prediction_id": made.id, "region": "p0-b0"}
    first = post(client, about | {"text": "eins", "author": "ann", "seen": ""}).json()
    stale = post(client, about | {"kind": "accept", "author": "bob", "seen": ""})
    assert stale.status_code == 409
    assert "ann has corrected this line meanwhile: 'eins'" in error(stale)
    assert post(client, about | {"text": "zwei", "seen": first["id"]}).status_code == 201
    assert post(client, about | {"text": "drei"}).status_code == 201, "who says nothing of it is not asked"
    assert post(client, about | {"region": "p0-b1", "kind": "accept", "seen": ""}).status_code == 201


def test_of_two_who_correct_a_line_at_once_one_is_told(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"prediction_id": world.prediction("one", "two").id, "region": "p0-b1", "seen": ""}
    real = feedback.draft

    def while_ann_is_kept(known: Any, body: Any, caller: str) -> Any:
        made = real(known, body, caller)
        if body.author == "bob":
            assert post(client, about | {"text": "zwei", "author": "ann"}).status_code == 201
        return made

    monkeypatch.setattr(feedback, "draft", while_ann_is_kept)
    late = post(client, [about | {"kind": "accept", "author": "bob"}])
    assert late.status_code == 409
    assert "item 0 of the list (from 0), nothing was kept: ann has corrected" in error(late)
    assert [c.author for c, _ in world.store.corrections.list()] == ["ann"]


def test_a_missing_text_is_not_an_empty_one(world: World, client: Client) -> None:
    made = world.prediction("dust")
    assert "text is missing" in error(post(client, {"prediction_id": made.id}))
    assert post(client, {"prediction_id": made.id, "text": ""}).status_code == 201


def test_a_missed_line_is_stated_by_its_place(world: World, client: Client) -> None:
    made = world.prediction("hello", "world")
    body = {"prediction_id": made.id, "bbox": [0, 0, 20, 20], "text": "missed"}
    kept = world.store.corrections.get(post(client, body).json()["id"])
    assert (kept.prediction, kept.region, kept.predicted) == (made.id, None, None)
    assert kept.polygon == ((0, 0), (20, 0), (20, 20), (0, 20))


def test_a_place_beyond_the_page_ends_at_its_border(world: World, client: Client) -> None:
    image = world.image("abc")
    height, width = world.house.pictures.page(image.sha256, 0).shape[:2]
    kept = post(client, {"image": image.sha256, "bbox": [0, 0, 1e30, 1e30], "text": "x"}).json()
    assert kept["bbox"] == [0, 0, width, height]
    assert client.get("/v1/predictions", params={"after": "pred_none"}).status_code == 404


def test_an_image_without_prediction_can_be_labelled(world: World, client: Client) -> None:
    image = world.image("hello")
    whole = post(client, {"image": image.sha256, "text": "hello", "kind": "blind"}).json()
    assert whole["bbox"][:2] == [0, 0]
    assert whole["kind"] == "blind"
    assert whole["prediction_id"] is None
    outside = {"image": image.sha256, "bbox": [9000, 0, 9010, 10], "text": "x"}
    assert "outside" in error(post(client, outside))
    assert "page" in error(post(client, {"image": image.sha256, "page": 3, "text": "x"}))
    assert post(client, {"image": "0" * 64, "text": "x"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "x"}, "name either prediction_id or"),
        ({"prediction_id": "p", "text": "x", "surprise": 1}, "surprise"),
        ({"prediction_id": "PRED", "text": "a\x07b"}, "control character U+0007"),
        ({"prediction_id": "PRED", "text": "x" * 1_000_000}, "2,000"),
        ({"prediction_id": "PRED", "text": "x", "bbox": [5, 5, 1, 1]}, "x0 < x1"),
        ({"prediction_id": "PRED", "text": "x", "author": "a\nb"}, "author"),
        ({"prediction_id": "PRED", "text": "x", "kind": "guess"}, "kind"),
        ([], "at least 1"),
    ],
)
def test_what_fails_is_refused_with_the_reason(world: World, client: Client, body: Any, words: str) -> None:
    made = world.prediction("hello")
    if isinstance(body, dict) and body.get("prediction_id") == "PRED":
        body = body | {"prediction_id": made.id}
    answer = post(client, body)
    assert answer.status_code == 422
    assert words in error(answer)
    assert world.store.corrections.list() == []


def test_text_is_kept_in_nfc(world: World, client: Client) -> None:
    made = world.prediction("u")
    assert post(client, {"prediction_id": made.id, "text": "u\u0308\n"}).json()["text"] == "\u00fc"


def test_a_body_over_the_limit_is_413(tmp_path: Path) -> None:
    client = World(tmp_path, max_upload_bytes=1000).client()
    assert post(client, {"image": "0" * 64, "text": "x" * 1_000_000}).status_code == 413


def test_a_list_is_kept_whole_or_not_at_all(world: World, client: Client) -> None:
    made = world.prediction("one", "two")
    good = [{"prediction_id": made.id, "region": f"p0-b{n}", "text": "x"} for n in (0, 1)]
    bad = post(client, [*good, {"prediction_id": "pred_unknown", "text": "x"}])
    assert bad.status_code == 404
    assert "item 2" in error(bad)
    assert world.store.corrections.list() == []
    assert len(post(client, good).json()["items"]) == 2


def test_the_author_is_named_by_body_header_or_key(world: World) -> None:
    made = world.prediction("x")
    body = {"prediction_id": made.id, "text": "y"}
    assert post(world.client(), body | {"author": "eve"}).json()["author"] == "eve"
    assert post(world.client(), body).json()["author"] == "ada"
    keyed = world.client(**{"x-author": "", "authorization": "Bearer secret"})
    author = post(keyed, body).json()["author"]
    assert author.startswith("key-")
    assert "secret" not in author
    for name in ("José", "Łukasz", "山田"):
        assert post(world.client(**{"x-author": name.encode()}), body).json()["author"] == name
    latin = world.client(**{"x-author": "José".encode("latin-1")})
    assert post(latin, body).json()["author"] == "José"


def test_the_same_key_and_body_give_the_same_answer_once(world: World, client: Client) -> None:
    body = {"prediction_id": world.prediction("x").id, "text": "y"}
    first, again = post(client, body, "k1"), post(client, body, "k1")
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(world.store.corrections.list()) == 1
    other = post(client, body | {"text": "z"}, "k1")
    assert other.status_code == 422
    assert "another body" in error(other)


def test_a_key_in_flight_is_409_and_a_failed_one_can_be_tried_again(world: World, client: Client) -> None:
    body = {"prediction_id": world.prediction("a", "b").id, "text": "y"}
    assert post(client, body, "k").status_code == 422
    assert post(client, body | {"region": "p0-b0"}, "k").status_code == 201
    import hashlib

    raw = json.dumps(body).encode()
    world.store.idempotency.begin("flying", "POST /v1/corrections?", hashlib.sha256(raw).hexdigest())
    headers = {"idempotency-key": "flying", "content-type": "application/json"}
    assert client.post("/v1/corrections", content=raw, headers=headers).status_code == 409


def test_pages_go_on_where_the_last_ended(world: World, client: Client) -> None:
    made = world.prediction(*"abcde")
    ids = [
        post(client, {"prediction_id": made.id, "region": f"p0-b{n}", "text": "x"}).json()["id"]
        for n in range(5)
    ]
    seen, after = [], None
    while True:
        page = client.get("/v1/corrections", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [c["id"] for c in page["items"]]
        if (after := page["next"]) is None:
            break
    assert seen == ids[::-1]
    assert client.get("/v1/corrections", params={"author": "nobody"}).json()["items"] == []
    assert client.get("/v1/corrections", params={"after": "corr_none"}).status_code == 404


def test_the_state_goes_from_submitted_to_deployed(world: World, client: Client) -> None:
    for n in range(20):  # some of the groups are sure to be on the train side
        post(client, {"prediction_id": world.prediction(f"line {chr(97 + n)}").id, "text": "x"})
    snapshot = take(world.store, Task.OCR)
    id = snapshot.side(snapshot.members[0].split)[0].correction

    def state(id: str) -> str:
        return str(client.get(f"/v1/corrections/{id}").json()["state"])

    assert state(id) == "snapshotted"
    trained = next(m.correction for m in snapshot.members if m.split == "train")
    world.store.versions.add(ModelVersion("ocr", "2", "b" * 64, 1.0, snapshot=snapshot.id))
    assert state(trained) == "trained"
    revoked = client.post(f"/v1/corrections/{trained}/revoke", json={"why": "misread"}).json()
    assert (revoked["state"], revoked["learned_by"]) == ("revoked", ["ocr/2"])
    assert revoked["revocation"]["who"] == "ada"
    again = client.post(f"/v1/corrections/{trained}/revoke", json={"why": "once more"})
    assert again.json()["revocation"]["why"] == "misread"


def test_predictions_can_be_looked_up(world: World, client: Client) -> None:
    made = world.prediction("one", "two", image=world.image("one", "letters"))
    view = client.get(f"/v1/predictions/{made.id}").json()
    assert view["group"] == "letters"
    assert [b["text"] for b in view["blocks"]] == ["one", "two"]
    listed = client.get("/v1/predictions").json()["items"]
    assert [(p["id"], p["lines"]) for p in listed] == [(made.id, 2)]
