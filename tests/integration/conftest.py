"""Parts that several integration tests share."""

from collections.abc import Iterator

import pytest
import torch
from mlflow_server import MlflowServer

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run beside each other, and threads of small models would only wait for each other."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server, one for all tests of the session; `.url` is its address.

    A test that stops it starts it again.
    """
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()
