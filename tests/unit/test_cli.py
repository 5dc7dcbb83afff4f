"""The command line explains itself, and says in a sentence what it cannot do."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from redpencil.errors import BadInput
from services.cli import app
from services.client import Client

COMMANDS = (
    ["up"], ["predict"], ["correct"], ["revoke"],
    ["retrain"], ["runs"], ["cancel"], ["resume"], ["gate"], ["promote"], ["rollback"],
    ["experiment", "start"], ["experiment", "set"], ["experiment", "show"], ["experiment", "end"],
    ["lineage"], ["status"], ["demo"], ["settings"],
)  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A command with settings that nothing listens to."""
    monkeypatch.setenv("REDPENCIL_HOME", str(tmp_path))
    monkeypatch.setenv("REDPENCIL_SERVICES_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")  # commands add to it
    monkeypatch.setenv("NO_PROXY", "")
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_that_says_what_it_is_for(run, words):
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 5


def test_settings_are_listed_for_machines(run, tmp_path):
    assert json.loads(run("settings", "--json").output)["home"] == str(tmp_path)


def test_without_a_running_stack_it_says_how_to_start_one(run):
    refused = run("status")
    assert refused.exit_code == 1
    assert "start everything with `redpencil up`" in refused.output


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(run, monkeypatch):
    class Versions(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"verdict": {"outcome": "passed"}, "to_be_judged": ""}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Versions) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("REDPENCIL_SERVICES_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        shown = run("gate", "2", "--json")
        server.shutdown()
    assert (shown.exit_code, json.loads(shown.output)) == (0, {"outcome": "passed"})
    assert os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_an_override_needs_a_reason(run):
    refused = run("promote", "2", "--override")
    assert refused.exit_code == 1
    assert "--why" in refused.output


def test_a_correction_is_a_text_or_an_acceptance_but_not_both(run):
    assert "either the true text or --accept" in run("correct", "pred_x").output
    assert "either the true text or --accept" in run("correct", "pred_x", "text", "--accept").output


@pytest.mark.parametrize("words", [("status",), ("lineage", "2")], ids=" ".join)
def test_a_setting_that_cannot_be_used_is_named(run, monkeypatch, words):
    monkeypatch.setenv("REDPENCIL_HOST", "::1")
    refused = run(*words)
    assert refused.exit_code != 0
    said = " ".join(refused.output.replace("│", " ").split())
    assert "REDPENCIL_HOST: Value error, '::1' is no IPv4 address or name" in said


def test_the_model_is_the_one_that_is_set(run, monkeypatch):
    monkeypatch.setenv("REDPENCIL_MODEL", "invoices")
    asked = []
    monkeypatch.setattr("services.client.Client._call", lambda _c, _m, url, **_: asked.append(url) or {})
    for words in (("lineage", "2"), ("rollback",), ("promote", "2")):
        run(*words)
    paths = ("/v1/lineage/invoices/2", "/v1/models/invoices/rollback", "/v1/models/invoices/promote")
    assert [url.removeprefix("http://127.0.0.1:9") for url in asked] == list(paths)


def test_a_parameter_without_a_value_is_refused(run):
    assert "write it as name=value" in run("retrain", "--param", "epochs").output


def test_one_file_that_is_no_image_keeps_no_other_from_being_read(run, monkeypatch, tmp_path):
    def predict(_: Client, data: bytes, *__: object, **___: object) -> object:
        if data == b"bad":
            raise BadInput("these bytes are no image")
        block = {"id": "p0-b0", "confidence": 1.0, "text": data.decode()}
        return {
            "prediction_id": "pred_1",
            "model_version": "1",
            "variant": "champion",
            "pages": [{"blocks": [block]}],
        }

    monkeypatch.setattr(Client, "predict", predict)
    for name, data in (("a", b"first"), ("b", b"bad"), ("c", b"last")):
        (tmp_path / name).write_bytes(data)
    done = run("predict", *(str(tmp_path / name) for name in "abc"))
    assert done.exit_code == 1
    assert f"{tmp_path / 'b'}: these bytes are no image" in done.output.replace("\n", "")
    assert "first" in done.output
    assert "last" in done.output


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch):
    """The corrections that commands have sent."""
    sent = []
    monkeypatch.setattr(
        "services.client.Client._call", lambda *_, json, **__: sent.append(json) or {"id": "corr_1"}
    )
    return sent


@pytest.mark.parametrize("text", ["-5.00", "-5 Euro each", "-", "- item", "-----", "--5", "-who"])
def test_a_text_may_begin_with_a_minus(run, stated, text):
    assert run("correct", "pred_x", text, "--region", "p0-b0").exit_code == 0
    assert run("correct", "--region", "p0-b0", "pred_x", text).exit_code == 0
    assert {(body["text"], body["region"]) for body in stated} == {(text, "p0-b0")}


def test_what_looks_like_an_option_is_no_text_unless_it_is_said_to_be(run, stated):
    for words in (("--acept",), ("text", "--regoin=p0-b0")):
        refused = run("correct", "pred_x", *words)
        assert refused.exit_code == 2
        assert "No such option" in refused.output
    assert "the true text" in run("correct", "-h").output
    assert stated == []
    for text in ("--acept", "-h"):
        run("correct", "pred_x", "--", text)
    assert [body["text"] for body in stated] == ["--acept", "-h"]


def test_a_missed_line_is_stated_by_its_place(run, stated):
    assert run("correct", "pred_x", "missed", "--bbox", "-3,0,20.5,20", "--page", "1").exit_code == 0
    [body] = stated
    assert (body["bbox"], body["page"], body["text"]) == ([-3, 0, 20.5, 20], 1, "missed")
    assert "region" not in body
    for wrong in ("1,2,3", "a,b,c,d", ""):
        assert "write it as x0,y0,x1,y1" in run("correct", "pred_x", "missed", "--bbox", wrong).output


def test_settings_keep_secrets_to_themselves_unless_asked(run, monkeypatch):
    secrets = {
        "API_KEYS": "hush-1,hush-2",
        "SECRET": "hush-3",
        "DATABASE_URL": "postgresql+psycopg://pencil:hush/4@db:5432/red?sslmode=require&password=hush-5",
        "MLFLOW_DATABASE_URL": "postgresql://mlflow:hush-6@db/mlflow",
        "VLM_URL": "http://hush-7@gpu:8000/v1",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(f"REDPENCIL_{name}", value)
    for words in ((), ("--json",)):
        shown = run("settings", *words).output
        assert "hush" not in shown
        assert "***@gpu:8000/v1" in shown
        assert "hush-3" in run("settings", "--show-secrets", *words).output
    told = json.loads(run("settings", "--json").output)
    assert told["database_url"] == "postgresql+psycopg://***@db:5432/red?sslmode=require&password=***"
    assert told["blobs_url"] == ""
