"""A real MLflow server that tests may stop, kill and start again; `import mlflow_server`."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from redpencil import ports


class MlflowServer:
    """A real MLflow server on a free port that can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = ports.free(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        self._wait(300)

    def stop(self) -> None:
        """End the server and its worker at once, as a power cut would."""
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        if self.process is not None and self.process.poll() is None:
            self.stop()
        raise TimeoutError((self.folder / "server.log").read_text()[-2000:])
