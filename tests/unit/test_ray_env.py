"""How Ray is started: what listens where."""

import subprocess
from pathlib import Path

import pytest

from redpencil.errors import NotReady
from redpencil.settings import Settings
from serving import ray_env
from serving.__main__ import require_gpus

CONFIG = """
frontend public
    bind *:8000
    bind *:84040
frontend statistics
    bind *:8404
frontend metrics
    bind :9101 tfo
"""


def test_the_side_doors_of_haproxy_stay_on_loopback_and_the_public_one_does_not(tmp_path: Path) -> None:
    script = ray_env._haproxy(tmp_path, ("8404", "9101"))
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG)
    subprocess.run([script, "-c", "-f", config], capture_output=True, timeout=20)  # whatever it says of it
    bound = [line.strip() for line in config.read_text().splitlines() if "bind" in line]
    assert bound == ["bind *:8000", "bind *:84040", "bind 127.0.0.1:8404", "bind 127.0.0.1:9101 tfo"]


@pytest.mark.parametrize(("device", "replicas", "gpus"), [("cpu", 4, 0), ("cuda", 1, 1), ("cuda", 2, 4)])
def test_replicas_start_where_there_is_a_gpu_for_each(device: str, replicas: int, gpus: float) -> None:
    require_gpus(Settings(device=device, replicas=replicas), gpus)


@pytest.mark.parametrize(("replicas", "gpus"), [(1, 0.0), (2, 1.0)])
def test_replicas_that_would_wait_for_a_gpu_are_refused_in_words(replicas: int, gpus: float) -> None:
    with pytest.raises(NotReady, match=f"each of {replicas} replicas a GPU, and Ray finds {gpus:.0f} here"):
        require_gpus(Settings(device="cuda", replicas=replicas), gpus)
