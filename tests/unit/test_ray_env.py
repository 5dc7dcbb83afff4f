"""How Ray is started: what listens where."""

import subprocess
from pathlib import Path

from serving import ray_env

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
