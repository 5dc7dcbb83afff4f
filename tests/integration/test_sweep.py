"""A sweep finds the parameters that learn, and MLflow shows its trials inside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_house
import torch
from mlflow_server import MlflowServer

from redpencil.errors import BadInput
from redpencil.registry import Registry
from redpencil.settings import Settings
from training import recipe
from training import sweep as command
from training.sweep_page import PARENT
from training.tuning import resources, space

CATR = recipe.find("catr")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Settings:
    return tiny_house.furnish(tmp_path_factory.mktemp("home"), mlflow_server.url, lines=90)


def told(settings: Settings) -> dict[str, str]:
    """The environment of a command."""
    given = {"home": settings.home, "mlflow_url": settings.mlflow_url, "model": settings.model}
    given |= {"recipes": tiny_house.RECIPES}
    return {f"REDPENCIL_{name.upper()}": str(value) for name, value in given.items()}


def swept(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person gives it."""
    given = [sys.executable, "-m", "training.sweep", "tiny", *arguments]
    environment = os.environ | told(settings)
    return subprocess.run(given, env=environment, capture_output=True, text=True, start_new_session=True)


def test_the_rate_that_learns_is_found_and_every_trial_is_told(settings: Settings) -> None:
    done = swept(settings, "--try", "lr=1e-7,0.5", "--set", "steps=60", "--trials", "3", "--at-once", "2")
    assert done.returncode == 0, done.stderr
    *trials, retrain = done.stdout.splitlines()
    assert len(trials) == 3
    assert "lr=0.5" in trials[0]
    assert retrain.startswith(f"redpencil retrain --model {settings.model} --recipe tiny --param steps=60")
    assert retrain.endswith("--param lr=0.5")
    client = Registry(settings.mlflow).client
    runs = client.search_runs([client.get_experiment_by_name(settings.model).experiment_id])
    (whole,) = (r for r in runs if r.data.tags.get("trigger") == "sweep" and PARENT not in r.data.tags)
    inside = [r for r in runs if r.data.tags.get(PARENT) == whole.info.run_id]
    assert whole.data.params["best/lr"] == "0.5"
    assert len(inside) == 3
    assert {r.info.status for r in (whole, *inside)} <= {"FINISHED", "KILLED"}
    best = min(inside, key=lambda r: r.data.metrics["score"])
    assert (best.data.params["lr"], best.data.metrics["validation/cer"]) == ("0.5", pytest.approx(0, abs=0.1))
    assert list(Path(settings.home, "sweeps").iterdir()) == []


@pytest.mark.parametrize(
    ("gpus", "at_once", "share"), [(0, 4, None), (1, 1, 1), (1, 4, 1 / 4), (2, 3, 1 / 2), (4, 2, 1)]
)
def test_trials_divide_the_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: int, at_once: int, share: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert resources(2, at_once) == {"cpu": 2} | ({"gpu": share} if share else {})


@pytest.mark.parametrize(
    ("tries", "said"),
    [
        ([], "say what to try"),
        (["lr"], "'lr' is nothing to try"),
        (["lr=a..b"], "nothing to try"),
        (["speed=1,2"], "unknown training parameter 'speed'"),
        (["batch=8,many"], "batch must be int, not 'many'"),
        (["primer=50,100"], "primer=50 is for families that read lines by CTC"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_words(tries: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        space(tries, CATR.defaults, CATR)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "0", "--try", "lr=1,2"], "there must be one at least"),
        (["--model", "nobody", "--try", "lr=1,2"], "there is no model 'nobody' here"),
        (["--set", "steps", "--try", "lr=1,2"], "parameters are NAME=VALUE, not 'steps'"),
        (["--set", "reach=far", "--try", "lr=1,2"], "reach is a share of the way"),
        (["--set", "validation=0", "--try", "lr=1,2"], "nothing to compare trials by"),
        (["--set", "unlabelled=5", "--set", "replay=0.5", "--try", "lr=1,2"], "leave unlabelled out"),
    ],
)
def test_a_wrong_command_is_answered_in_words(
    settings: Settings,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in told(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["sweep", "tiny", *arguments])
    monkeypatch.setattr(command, "yield_to_others", lambda: None)  # this process goes on testing
    assert command.main() == 1
    assert said in capsys.readouterr().err


def test_bounds_draw_between_them() -> None:
    drawn = space(["lr=1e-4..1e-2", "batch=4..6", "schedule=step,cosine"], CATR.defaults, CATR)
    found = [{name: domain.sample() for name, domain in drawn.items()} for _ in range(50)]
    assert all(1e-4 <= f["lr"] <= 1e-2 for f in found)
    assert {f["batch"] for f in found} == {4, 5, 6}
    assert {f["schedule"] for f in found} == {"step", "cosine"}
