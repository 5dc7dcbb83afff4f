"""Corrections moved in bulk: what the export writes the import reads, and says of every line why not."""

import json

import pytest
from service_house import Client, World, post

from services import transfer


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_an_export_comes_back_in_as_it_was(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAGE", 3)
    made = world.prediction("one", "two")
    image = world.image("blank")
    body = [
        {"prediction_id": made.id, "region": "p0-b0", "text": "eins", "author": "bo"},
        {"prediction_id": made.id, "region": "p0-b1", "kind": "accept"},
        {"prediction_id": made.id, "bbox": [0, 0, 9, 9], "text": "missed"},
        {"image": image.sha256, "text": "\u00fcber", "kind": "blind"},
    ]
    ids = [c["id"] for c in post(client, body).json()["items"]]
    client.post(f"/v1/corrections/{ids[0]}/revoke", json={"why": "typo"})
    exported = client.get("/v1/corrections/export").text
    assert exported.count("\n") == 4

    report = client.post("/v1/corrections/import", content=exported).json()
    assert (report["accepted"], report["duplicates"], report["refused"]) == (0, 4, [])

    other = World(world.settings.home / "other")
    other.store.images.add_many([world.store.images.get(i) for i in (made.image, image.sha256)])  # type: ignore[misc]
    for sha256 in (made.image, image.sha256):
        other.house.blobs.put(world.house.blobs.get(sha256))
    other.store.predictions.add_many([(world.store.images.get(made.image), made)])  # type: ignore[list-item]
    report = other.client().post("/v1/corrections/import?atomic=true", content=exported).json()
    assert report["accepted"] == 4
    back = other.client().get("/v1/corrections/export").text
    assert sorted(back.splitlines()) == sorted(exported.splitlines()), "times of revocations too"
    times = [json.loads(line)["created_at"] for line in back.splitlines()]
    assert times == sorted(times, reverse=True), "newest first there as well"


def test_an_export_goes_in_where_nobody_read_the_images(world: World, client: Client) -> None:
    made = world.prediction("one", "two")
    said = [
        {"prediction_id": made.id, "region": "p0-b0", "text": "eins", "author": "bo"},
        {"prediction_id": made.id, "region": "p0-b1", "kind": "accept"},
    ]
    post(client, said)
    exported = client.get("/v1/corrections/export").text
    other = World(world.settings.home / "other")
    unknown = other.client().post("/v1/corrections/import", content=exported).json()
    assert "send it for a prediction, or to /v1/images, first" in unknown["refused"][0]["reason"]
    other.client().post("/v1/images", content=world.house.blobs.get(made.image))
    for accepted, duplicates in ((2, 0), (0, 2)):
        report = other.client().post("/v1/corrections/import", content=exported).json()
        assert (report["accepted"], report["duplicates"], report["refused"]) == (accepted, duplicates, [])
    kept = [c for c, _ in other.store.corrections.list()]
    assert sorted((c.text, c.author, c.prediction, c.kind.value) for c in kept) == [
        ("eins", "bo", None, "correct"),
        ("two", "ada", None, "correct"),
    ]
    assert {c.polygon for c in kept} == {b.polygon for b in made.blocks}


def test_what_was_revoked_by_nobody_is_not_kept_at_all(world: World, client: Client) -> None:
    line = {"image": world.image("blank").sha256, "text": "x", "revocation": {"who": "  ", "why": "typo"}}
    report = client.post("/v1/corrections/import", content=json.dumps(line)).json()
    assert (report["accepted"], len(report["refused"])) == (0, 1)
    assert world.store.corrections.list() == []


def test_a_reason_that_no_database_keeps_is_refused(world: World, client: Client) -> None:
    made = world.prediction("one")
    id = post(client, {"prediction_id": made.id, "text": "eins"}).json()["id"]
    for why in ("a\x00b", "   "):
        assert client.post(f"/v1/corrections/{id}/revoke", json={"why": why}).status_code == 422


def test_an_import_says_of_every_bad_line_why(world: World, client: Client) -> None:
    made = world.prediction("one", "two")
    lines = [
        json.dumps({"prediction_id": made.id, "region": "p0-b0", "text": "eins"}),
        "{not json",
        "",
        json.dumps({"prediction_id": "pred_none", "text": "x"}),
        json.dumps({"prediction_id": made.id, "region": "p0-b1", "text": "a\x00"}),
        json.dumps({"prediction_id": made.id, "region": "p0-b1", "txt": "typo"}),
        json.dumps({"prediction_id": made.id, "region": "p0-b1", "text": "zwei"}),
    ]
    body = "\n".join(lines)
    refused = client.post("/v1/corrections/import?atomic=true", content=body)
    assert refused.status_code == 422
    assert [r["line"] for r in refused.json()["refused"]] == [2, 4, 5, 6]
    assert world.store.corrections.list() == []
    report = client.post("/v1/corrections/import", content=body).json()
    assert report["accepted"] == 2
    reasons = {r["line"]: r["reason"] for r in report["refused"]}
    assert "JSON" in reasons[2]
    assert "pred_none" in reasons[4]
    assert "U+0000" in reasons[5]
    assert "txt" in reasons[6]


def test_an_import_never_changes_what_is_there(world: World, client: Client) -> None:
    made = world.prediction("one")
    id = post(client, {"prediction_id": made.id, "text": "eins"}).json()["id"]
    row = {"id": id, "prediction_id": made.id, "text": "zwei"}
    report = client.post("/v1/corrections/import", content=json.dumps(row)).json()
    assert "never edited" in report["refused"][0]["reason"]
    assert world.store.corrections.get(id).text == "eins"


def test_an_import_cannot_invent_an_audit(world: World, client: Client) -> None:
    made = world.prediction("one")
    row = {"prediction_id": made.id, "text": "eins", "audit_probability": 0.5}
    client.post("/v1/corrections/import", content=json.dumps(row))
    assert world.store.corrections.list()[0][0].audit_probability is None
