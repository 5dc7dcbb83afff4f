"""The README's own commands, run one after another as a stranger would type them."""

import os
import re
import subprocess
from pathlib import Path

import httpx
import mlflow
import pytest

from benchmarks.stack import Stack

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
STARTS_THE_STACK, RUNS_THE_TESTS = "make up\n", "make test\n"


def sh(script: str, stack: Stack) -> subprocess.CompletedProcess[str]:
    """The block as typed into bash at the repository's root; only the ports are those of the test's stack."""
    for default, used in (("8000", stack.settings.serving_port), ("8080", stack.settings.services_port)):
        script = script.replace(f"127.0.0.1:{default}", f"127.0.0.1:{used}")
    bash = ["bash", "-euo", "pipefail", "-O", "expand_aliases", "-c", script]
    environment = stack.environment | {"PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(bash, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)


def answered(stack: Stack) -> tuple[str, str]:
    """The version that reads the receipt now, and the receipt's text."""
    data = (ROOT / "examples" / "receipt.jpg").read_bytes()
    url = f"{stack.settings.serving}/v1/ocr"
    answer = httpx.post(url, content=data, headers={"Content-Type": "image/jpeg"}, timeout=60).json()
    return answer["model_version"], answer["pages"][0]["text"]


@pytest.fixture(scope="module")
def played(stack: Stack) -> list[str]:
    """What every block printed; the two set-up commands are the test's own frame."""
    assert BLOCKS[:2] == [STARTS_THE_STACK, RUNS_THE_TESTS]
    script = "\n".join(BLOCKS[2:])
    outputs = []
    done = sh(script, stack)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs.append(done.stdout)
    return outputs


def test_three_corrections_make_a_version_that_reads_the_letterhead(played: list[str]):
    assert "Ulte Drucke" in played[0] or "Rranz" in played[0], "the base model was expected to misread it"
    assert "Antiquariat Kranz am Wall" in played[0]
    assert "passed" in played[0]


def test_after_rollback_the_first_version_answers_and_the_registry_agrees(played: list[str], stack: Stack):
    version, _ = answered(stack)
    client = mlflow.MlflowClient(tracking_uri=stack.settings.mlflow)
    assert version == "1"
    assert client.get_model_version_by_alias("ocr", "champion").version == "1"


def test_moving_the_alias_in_mlflow_is_followed(played: list[str], stack: Stack):
    import time

    client = mlflow.MlflowClient(tracking_uri=stack.settings.mlflow)
    client.set_registered_model_alias("ocr", "champion", "2")
    deadline = time.monotonic() + 60
    while answered(stack)[0] != "2":
        assert time.monotonic() < deadline, "version 2 is not served although its alias was moved"
        time.sleep(0.1)
    assert "Antiquariat Kranz am Wall" in answered(stack)[1]
