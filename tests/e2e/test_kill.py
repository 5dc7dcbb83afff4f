"""Kill -9 under traffic: what was acknowledged is there afterwards, and everything answers again."""

import psutil

from benchmarks.kill import POWER, trial
from services.local import stack_mark


def test_nothing_acknowledged_is_lost_whatever_is_killed(tmp_path):
    victims = ["replica", "services", "mlflow", POWER]
    rows = trial(rounds=len(victims), seed=1, home=tmp_path, victims=victims)
    assert [row["lost"] for row in rows] == [0] * len(victims)
    assert int(str(rows[-1]["corrections"])) > len(victims), "the trial had no traffic to lose"


def test_no_process_is_left_when_it_has_stopped(tmp_path):
    mark = stack_mark(tmp_path)
    trial(rounds=1, seed=2, home=tmp_path, victims=[POWER])
    assert [p.cmdline() for p in psutil.process_iter(["environ"]) if mark in str(p.info["environ"])] == []
