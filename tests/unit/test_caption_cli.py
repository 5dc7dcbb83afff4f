"""What the command line asks of the caption model, and what it tells of it."""

import json
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from service_house import World
from typer.testing import CliRunner

from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.types import Split
from services import cli
from services.client import Client


class Told:
    """What the command line asked, and what it is answered."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, []  # type: ignore[var-annotated]

    def __call__(self, _client: Any, method: str, url: str, **arguments: Any) -> Any:
        self.calls.append((method, httpx.URL(url).path, arguments))
        return self.answer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def invoke(answer: Any, *words: str) -> tuple[Told, str]:
        told = Told(answer)
        monkeypatch.setattr("services.client.Client._call", lambda c, m, u, **a: told(c, m, u, **a))
        done = CliRunner().invoke(cli.app, list(words))
        assert done.exit_code == 0, done.output
        return told, done.output

    return invoke


def test_an_image_is_captioned_from_the_command_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_bytes(b"pixels")
    block = {"id": "p0-b0", "confidence": 0.9, "text": "two dogs"}
    answer = {"prediction_id": "pred_1", "model_version": "3", "variant": "explicit"}
    answer |= {"pages": [{"blocks": [block]}]}
    words = ("predict", "--task", "caption", "--version", "3", str(tmp_path / "dog.png"))
    told, output = run(answer, *words)
    (call,) = told.calls
    assert (call[1], call[2]["params"]) == ("/v1/captions", {"model_version": "3"})
    assert "two dogs" in output


def test_hyper_parameters_are_set_by_name(run: Any) -> None:
    words = ("retrain", "--model", "caption", "--recipe", "catr", "--set", "lr=1e-4", "--no-wait")
    queued = {"state": "queued", "id": "run_1", "recipe": "catr", "phase": None, "version": None, "links": {}}
    told, said = run(queued, *words)
    assert said == "run_1 (catr): queued\n"
    body = told.calls[0][2]["json"]
    assert body == {"model": "caption", "recipe": "catr", "params": {"lr": "1e-4"}}


def test_a_bare_number_is_a_version_of_the_model(run: Any) -> None:
    assert run({}, "lineage", "2", "--model", "caption")[0].calls[0][1] == "/v1/lineage/caption/2"
    assert run({}, "lineage", "caption/2")[0].calls[0][1] == "/v1/lineage/caption/2"
    assert run({}, "lineage", "pred_1")[0].calls[0][1] == "/v1/lineage/pred_1"


def test_status_tells_of_an_unused_model_in_one_line(world: World, run: Any) -> None:
    world.serve("1")
    _, output = run(world.client().get("/v1/status").json(), "status")
    about = [line for line in output.splitlines() if "caption" in line]
    assert len(about) == 1
    assert "no version yet" in about[0]
    assert "ocr: version 1 is served" in output


def test_a_damaged_image_is_named_and_the_rest_of_a_set_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(b"%d" % n)
    rows = [json.dumps({"image": f"{n}.png", "captions": [f"text {n}"]}) for n in range(4)]
    (tmp_path / "captions.jsonl").write_text("\n".join(rows))
    kept: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/import"):
            kept.append(request.content)
            return httpx.Response(200, json={"accepted": request.content.count(b"\n") + 1, "refused": []})
        if request.content == b"2":
            return httpx.Response(422, json={"error": {"message": "it is cut short"}})
        return httpx.Response(201, json={"image": "a" * 64, "group": request.url.params["group"]})

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: real(transport=httpx.MockTransport(answer), **given))
    monkeypatch.setattr("services.cli_import.AT_ONCE", 2)
    done = CliRunner().invoke(cli.app, ["dataset", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "3 images, 3 texts kept" in done.output
    assert "2.png: it is cut short" in done.output.replace("\n", "")
    assert len(kept) == 2, "what was read is kept as it comes"


def test_an_image_that_stands_on_the_other_side_is_named_and_left_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was here before keeps its side, whatever a data set says of it later."""
    client, folder, rows = world.client(), tmp_path / "set", list[str]()
    folder.mkdir()
    before = {1: Split.HOLDOUT, 2: Split.TRAIN, 3: Split.HOLDOUT}
    for n, part in enumerate(("val", "val", "val", "train")):
        rows.append(json.dumps({"image": f"{n}.png", "captions": ["x"], "split": part}))
        png = cv2.imencode(".png", np.full((40, 40), 40 * n, np.uint8))[1].tobytes()
        (folder / f"{n}.png").write_bytes(png)
        if n in before:
            group = next(g for g in (f"{n}-{k}" for k in range(99)) if side_of(g) is before[n])
            client.post(
                "/v1/images", content=png, params={"group": group}, headers={"content-type": "image/png"}
            )
    (folder / "captions.jsonl").write_text("\n".join(rows))
    monkeypatch.setattr(
        Client, "_call", lambda _, m, u, **a: client.request(m, httpx.URL(u).path, **a).json()
    )
    said = json.loads(CliRunner().invoke(cli.app, ["dataset", str(folder), "--json"]).output)
    assert (said["images"], said["accepted"]) == (2, 2)
    assert (
        "2.png: it is one of the set's val images, but has been here before, in the group '2-"
        in said["refused"][0]
    )
    assert "stands on the train side for life" in said["refused"][0]
    assert "3.png: it is one of the set's train images" in said["refused"][1]
    assert {side_of(c.group) for c, _ in world.store.corrections.list()} == {Split.HOLDOUT}


def test_who_has_no_name_or_an_unusual_one_can_use_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert dict(Client(Settings())._http.headers.raw)[b"X-Author"].startswith(b"uid-")
    monkeypatch.setattr("getpass.getuser", lambda: "山田")
    assert dict(Client(Settings())._http.headers.raw)[b"X-Author"].decode() == "山田"
