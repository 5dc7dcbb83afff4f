"""The supervisor says what is in its way, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from processes import alive
from pydantic import ValidationError

from redpencil import ports
from redpencil.errors import Conflict, RedpencilError
from redpencil.settings import Settings
from services import local
from services.local import MARK


def settings(home, **more) -> Settings:
    return Settings.model_validate({"home": home, **more})


def test_a_taken_port_is_named_with_the_variable_that_moves_it(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is taken.*REDPENCIL_SERVING_PORT"):
            local.up(settings(tmp_path, serving_port=port), say=print)


def test_a_home_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RedpencilError, match="set REDPENCIL_HOME"):
        local.prepare(settings(tmp_path / "file"))


def test_parts_are_asked_where_they_listen_and_not_by_the_address_that_people_know(tmp_path):
    known = {"serving_url": "https://ocr.example", "services_url": "https://pencil.example"}
    there = settings(tmp_path, host="0.0.0.0", api_keys="k", serving_port=1, services_port=2, **known)
    asked = {part.name: part.url for part in local.parts(there)}
    assert (asked["serving"], asked["services"]) == ("http://127.0.0.1:1/health", "http://127.0.0.1:2/health")


def parts_of(home, **more) -> list[str]:
    return [part.name for part in local.parts(settings(home, **more))]


def test_an_mlflow_elsewhere_is_no_part_of_the_stack(tmp_path):
    assert parts_of(tmp_path) == ["mlflow", "services", "serving"]
    assert parts_of(tmp_path, mlflow_url="http://localhost:5000/") == ["mlflow", "services", "serving"]
    for url in ("https://mlflow.example", "http://127.0.0.1:5001", "http://mlflow:5000"):
        assert parts_of(tmp_path, mlflow_url=url) == ["services", "serving"]


def test_the_port_of_an_mlflow_elsewhere_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    serving, services = ports.free(2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        doors = {"serving_port": serving, "services_port": services}
        doors |= {"mlflow_port": listening.getsockname()[1]}
        local.up(settings(tmp_path, mlflow_url="https://mlflow.example", **doors), say=print)
        with pytest.raises(Conflict, match="REDPENCIL_MLFLOW_PORT"):
            local.up(settings(tmp_path, **doors), say=print)


def test_beyond_loopback_needs_keys(tmp_path):
    with pytest.raises(ValidationError, match="REDPENCIL_API_KEYS"):
        settings(tmp_path, host="0.0.0.0")
    assert settings(tmp_path, host="0.0.0.0", api_keys="secret").host == "0.0.0.0"


def test_settings_that_cannot_work_together_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="three different ports"):
        settings(tmp_path, serving_port=8080)
    with pytest.raises(ValidationError, match="less than or equal to 65535"):
        settings(tmp_path, serving_port=99_999)
    with pytest.raises(Conflict, match=r"nothing can listen on 256\.1\.1\.1"):
        local.up(settings(tmp_path, host="256.1.1.1", api_keys="k"), say=print)


def test_a_family_that_is_not_there_is_named_at_the_start(tmp_path):
    with pytest.raises(
        RedpencilError, match="REDPENCIL_CAPTION_RECIPE: there is no family 'catz'; there are catr"
    ):
        local.prepare(settings(tmp_path, caption_recipe="catz"))


def test_a_second_stack_on_the_same_home_is_refused(tmp_path):
    local.prepare(settings(tmp_path))
    with local._only_one(tmp_path), pytest.raises(Conflict, match="already up"), local._only_one(tmp_path):
        pass


def test_what_an_earlier_stack_left_behind_is_ended(tmp_path):
    environment = os.environ | {MARK: local.stack_mark(tmp_path)}
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True); time.sleep(60)"
    )
    left = subprocess.Popen([sys.executable, "-c", stubborn], env=environment, stdout=subprocess.PIPE)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert left.stdout is not None
    left.stdout.readline()
    try:
        local.sweep(settings(tmp_path))
        assert not psutil.pid_exists(left.pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_part_ends_with_a_supervisor_that_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from services.part import Part\n"
        f"part = Part('p', ['sleep', '60'], '', Path({str(tmp_path / 'log')!r}))\n"
        "part.start(); print(part.process.pid, flush=True); time.sleep(60)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    part = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    deadline = time.monotonic() + 60
    while alive(part):
        assert time.monotonic() < deadline
        time.sleep(0.05)
