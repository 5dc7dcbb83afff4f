"""What a person is shown next, and audits that nobody can invent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_bundle
from service_house import Client, World, error

from redpencil.errors import BadInput
from redpencil.snapshot import side_of
from redpencil.types import Split
from services import review
from services.audit import Auditor


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, audit_share=0.0)
    yield world
    world.store.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def following(client: Client, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/v1/review/next", params=query).json()["items"]
    return items


def correct(client: Client, item: dict[str, Any], **fields: Any) -> Any:
    body = {"prediction_id": item["prediction_id"], "region": item["region"], "text": "x"}
    return client.post("/v1/corrections", json=body | fields)


def test_the_line_that_should_teach_the_most_comes_first(world: World, client: Client) -> None:
    made = world.prediction("least", "leas", "most")
    items = following(client, n=3)
    assert [(i["region"], i["text"]) for i in items][:2] == [("p0-b0", "least"), ("p0-b2", "most")]
    assert items[0]["prediction_id"] == made.id
    assert items[0]["char_confidence"] == [0.5] * 5
    assert items[0]["audit_token"] is None
    assert following(client, n=3, mode="useful") == items


def test_what_was_corrected_last_is_not_asked_again_in_other_lines(world: World, client: Client) -> None:
    world.prediction("least", "leasx", "mostly", "hugo")
    assert following(client)[0]["text"] == "mostly"
    correct(client, following(client)[0])
    correct(client, following(client)[0])
    assert following(client)[0]["text"] == "hugo"


def test_a_corrected_line_is_not_shown_again_until_it_is_revoked(world: World, client: Client) -> None:
    world.prediction("least", "more")
    kept = correct(client, following(client)[0]).json()
    assert [i["region"] for i in following(client, n=5)] == ["p0-b1"]
    client.post(f"/v1/corrections/{kept['id']}/revoke", json={"why": "no"})
    assert len(following(client, n=5)) == 2


def test_nothing_waits_where_nothing_was_read(client: Client) -> None:
    assert client.get("/v1/review/next").json() == {"items": [], "waiting": 0}
    assert client.get("/v1/review/next", params={"mode": "audit"}).json()["items"] == []


def test_an_audit_records_the_chance_with_which_the_line_was_drawn(world: World, client: Client) -> None:
    world.prediction(*"abcd")
    item = following(client, mode="audit")[0]
    kept = correct(client, item, audit_token=item["audit_token"]).json()
    assert kept["audit_probability"] == 0.25


def test_the_share_of_audits_is_the_setting(tmp_path: Path) -> None:
    world = World(tmp_path, audit_share=1.0)
    world.prediction(*"abcd")
    assert all(i["audit_token"] for i in following(world.client(), n=4))
    uncertain = following(world.client(), n=4, mode="useful")
    assert not any(i["audit_token"] for i in uncertain)


def test_held_out_lines_are_asked_about_only_where_nothing_else_waits(world: World) -> None:
    """They teach nothing; the audit draws from them like from all others."""
    held = next(name for name in map(str, range(99)) if side_of(name) is Split.HOLDOUT)
    learned = next(name for name in map(str, range(99)) if side_of(name) is Split.TRAIN)
    away = world.prediction("unsure", image=world.image("unsure", held))
    assert {i["prediction_id"] for i in following(world.client(), n=9, mode="useful")} == {away.id}
    here = world.prediction("line", image=world.image("line", learned))
    assert {i["prediction_id"] for i in following(world.client(), n=9, mode="useful")} == {here.id}


def test_an_audit_is_uniform(world: World) -> None:
    world.prediction(*"abcd")
    seen = [review.next_lines(world.house, mode="audit")["items"][0]["region"] for _ in range(200)]
    assert min(seen.count(f"p0-b{n}") for n in range(4)) >= 20  # 50 expected; less: 1 in 10 million


@pytest.mark.parametrize("token", ["", "x", "a.b", "é.ü", "WyJhIl0.AAAA"])
def test_a_made_up_token_is_refused(world: World, client: Client, token: str) -> None:
    world.prediction("a")
    answer = correct(client, following(client)[0], audit_token=token)
    assert answer.status_code == 422
    assert "audit_token" in error(answer)


def test_a_token_is_good_for_its_own_line_alone(world: World, client: Client) -> None:
    world.prediction(*"ab")
    item = following(client, mode="audit")[0]
    other = next(i for i in following(client, n=2) if i["region"] != item["region"])
    assert correct(client, other, audit_token=item["audit_token"]).status_code == 422
    body = {"image": item["image"], "text": "x", "audit_token": item["audit_token"]}
    assert client.post("/v1/corrections", json=body).status_code == 422


def test_another_installation_does_not_know_the_token(tmp_path: Path) -> None:
    mine, other = Auditor.of(tmp_path / "a"), Auditor.of(tmp_path / "b")
    token = mine.token("pred_1", "p0-b0", 0.5)
    assert Auditor.of(tmp_path / "a").probability(token, "pred_1", "p0-b0") == 0.5
    with pytest.raises(BadInput):
        other.probability(token, "pred_1", "p0-b0")
    assert (tmp_path / "a" / "audit.key").stat().st_mode & 0o077 == 0


def test_a_blind_review_shows_no_reading(world: World, client: Client) -> None:
    world.prediction("secret")
    item = following(client, blind=True)[0]
    assert "secret" not in str(item)
    assert item["confidence"] is None


def picture(client: Client, url: str) -> np.ndarray:
    answer = client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_a_line_comes_as_a_picture(world: World, client: Client) -> None:
    world.prediction("hello")
    item = following(client)[0]
    assert np.array_equal(picture(client, item["image_url"]), tiny_bundle.paint("hello"))
    url = f"/v1/images/{item['image']}"
    assert picture(client, f"{url}?bbox=0,0,30,10").shape == (10, 30, 3)
    assert picture(client, f"{url}?width=40").shape[1] == 40
    corners = "0.1,0.1,30.10000000000001,1e-1,30.1,10.1,0.1,10.1"
    assert picture(client, f"{url}?polygon={corners}").shape == (10, 30, 3)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("bbox=1,2,3", 422),
        ("bbox=1,2,3,x", 422),
        ("bbox=5,5,1,1", 422),
        ("page=4", 422),
        ("bbox=900000,0,900009,9", 422),
        ("polygon=0,0,1,1", 422),
        ("bbox=nan,0,1,1", 422),
    ],
)
def test_a_picture_that_cannot_be_is_refused(world: World, client: Client, query: str, status: int) -> None:
    image = world.image("hello")
    assert client.get(f"/v1/images/{image.sha256}?{query}").status_code == status


def test_an_unknown_image_is_404(client: Client) -> None:
    assert client.get(f"/v1/images/{'0' * 64}").status_code == 404
    assert client.get("/v1/images/..%2F..%2Fetc%2Fpasswd").status_code == 404


def test_an_image_can_be_made_known_without_being_read(world: World, client: Client) -> None:
    data = cv2.imencode(".png", tiny_bundle.paint("abc"))[1].tobytes()
    answer = client.post("/v1/images?group=book", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["group"], made["pages"][0]["height"]) == ("book", tiny_bundle.paint("abc").shape[0])
    body = {"image": made["image"], "text": "abc"}
    assert client.post("/v1/corrections", json=body).json()["group"] == "book"
    bad = client.post("/v1/images", content=b"no image", headers={"content-type": "image/png"})
    assert bad.status_code == 422
    form = {"content-type": "application/x-www-form-urlencoded"}  # what curl --data-binary says by itself
    unsaid = client.post("/v1/images", content=data, headers=form)
    assert unsaid.status_code == 415
    assert "send the image as the body with its own Content-Type" in error(unsaid)
    odd = client.post("/v1/images", content=data, headers={"content-type": "image/heic"})
    assert (odd.status_code, "Content-Type" in error(odd)) == (415, False)
