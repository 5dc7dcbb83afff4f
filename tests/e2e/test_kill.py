"""Kill -9 under traffic: what was acknowledged is there afterwards, and everything answers again."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.kill import POWER, trial
from services.local import stack_mark

VICTIMS = ["replica", "services", "mlflow", POWER]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def rows(home: Path) -> list[dict[str, Any]]:
    """One round for each victim, in a stack that was stopped at the end."""
    return trial(rounds=len(VICTIMS), seed=1, home=home, victims=VICTIMS)


def test_nothing_acknowledged_is_lost_whatever_is_killed(rows: list[dict[str, Any]]) -> None:
    assert [row["lost"] for row in rows] == [0] * len(VICTIMS)
    assert int(str(rows[-1]["corrections"])) > len(VICTIMS), "the trial had no traffic to lose"


def test_no_process_is_left_when_it_has_stopped(rows: list[dict[str, Any]], home: Path) -> None:
    mark = stack_mark(home)
    left = [p.cmdline() for p in psutil.process_iter(["environ"]) if mark in str(p.info["environ"])]
    assert (len(rows), left) == (len(VICTIMS), [])
