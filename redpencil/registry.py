"""The model registry, as people see it: MLflow. The only importer of mlflow outside training."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version
from typing import Any

from redpencil.errors import NotFound, NotReady, RedpencilError
from redpencil.gate import report_markdown
from redpencil.types import Verdict

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow show its pages for model training, not those for agents."""
BUNDLE = "bundle"
"""Where in a run's artifacts its bundle lies."""


class Registry:
    """Registered models, their versions, tags and aliases on one MLflow server.

    Every method raises NotReady where the server is down (at once, or within two `timeout_s`
    where it hangs), and NotFound for a model or version that is not there. The timeout holds for
    the whole process: MLflow reads it from the environment.
    """

    def __init__(self, url: str, timeout_s: int = 10) -> None:
        self.url = url
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(timeout_s)
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

    def ensure_model(self, model: str, description: str = "") -> None:
        """Register the model's name, if it is not yet known."""
        from mlflow.exceptions import MlflowException

        with answering(self.url):
            try:
                self.client.create_registered_model(model, description=description)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def experiment(self, model: str) -> str:
        """The id of the experiment that holds the model's runs; made on first use."""
        from mlflow.exceptions import MlflowException

        with answering(self.url):
            if found := self.client.get_experiment_by_name(model):
                return str(found.experiment_id)
            try:
                return str(self.client.create_experiment(model, tags=KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return str(self.client.get_experiment_by_name(model).experiment_id)

    def register(
        self,
        model: str,
        folder: Path,
        tags: Mapping[str, str],
        run_id: str | None = None,
        description: str = "",
    ) -> str:
        """Log a bundle folder as a run's artifacts and make it the model's next version.

        Again for the same run (without a run: for the same tag `bundle.sha256`) gives the version
        that is already there. `mlflow.onnx.load_model` opens the precision served by default.
        """
        self.ensure_model(model)
        with answering(self.url):
            if (known := self._registered(model, run_id, tags)) is not None:
                return known
            run = run_id or self._import_run(model, tags)
            self.client.log_artifacts(run, str(folder), BUNDLE)
            self._log_mlmodel(run, folder)
            if run_id is None:
                self.client.set_terminated(run)
            # The artifacts' own address: behind runs:/ MLflow's pages do not find the schema.
            source = f"{self.client.get_run(run).info.artifact_uri}/{BUNDLE}"
            said = {"tags": dict(tags), "description": description}
            made = self.client.create_model_version(model, source, run, **said, await_creation_for=0)
            return str(made.version)

    def download(self, model: str, version: str, into: Path) -> Path:
        """Copy what a version holds into a folder, as it lies there; nothing of it is opened."""
        from mlflow.artifacts import download_artifacts

        with answering(self.url):
            source = self.client.get_model_version_download_uri(model, version)
            return Path(download_artifacts(source, dst_path=str(into), tracking_uri=self.url))

    def alias(self, model: str, alias: str) -> str | None:
        """The version an alias points at; None where nobody set it or the model is unknown."""
        from mlflow.exceptions import MlflowException

        with answering(self.url):
            try:
                return str(self.client.get_model_version_by_alias(model, alias).version)
            except MlflowException as error:
                # An alias that is not set is "invalid", a model that is not there "does not exist".
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def set_alias(self, model: str, alias: str, version: str) -> None:
        with answering(self.url):
            self.client.set_registered_model_alias(model, alias, version)

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove an alias; nothing happens where it is not set."""
        with answering(self.url):
            self.client.delete_registered_model_alias(model, alias)

    def tags(self, model: str, version: str) -> dict[str, str]:
        with answering(self.url):
            return dict(self.client.get_model_version(model, version).tags)

    def set_tags(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        with answering(self.url):
            for key, value in tags.items():
                self.client.set_model_version_tag(model, version, key, value)

    def log_verdict(self, model: str, version: str, verdict: Verdict) -> None:
        """Put the verdict into the version's tags and, as JSON and as a page to read, its run."""
        tags = verdict_tags(verdict)
        with answering(self.url):
            run = self.client.get_model_version(model, version).run_id
            self.client.log_text(
                run, json.dumps(asdict(verdict), indent=2, ensure_ascii=False), "gate/verdict.json"
            )
            self.client.log_text(run, report_markdown(verdict), "gate/report.md")
            for key, value in tags.items():
                self.client.set_tag(run, key, value)
        self.set_tags(model, version, tags)

    @cached_property
    def client(self) -> Any:
        # Imported on first use: it costs 1.5 s and 160 MB that not every command needs.
        from mlflow import MlflowClient

        return MlflowClient(self.url, self.url)

    def _registered(self, model: str, run_id: str | None, tags: Mapping[str, str]) -> str | None:
        if run_id is not None:
            where = f"name = '{model}' and run_id = '{run_id}'"
        elif "bundle.sha256" in tags:
            where = f"name = '{model}' and tags.`bundle.sha256` = '{tags['bundle.sha256']}'"
        else:
            return None
        found = self.client.search_model_versions(where)
        return min((str(v.version) for v in found), key=int, default=None)

    def _import_run(self, model: str, tags: Mapping[str, str]) -> str:
        experiment = self.experiment(model)
        return str(self.client.create_run(experiment, run_name="import", tags=dict(tags)).info.run_id)

    def _log_mlmodel(self, run_id: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "MLmodel")
            mlmodel(folder, run_id).save(str(path))
            self.client.log_artifact(run_id, str(path), BUNDLE)


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn what MLflow raises into our errors: NotReady, NotFound, or the server's own words."""
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import RequestException

    try:
        yield
    except RequestException as error:
        raise NotReady(_away(url, error)) from error
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(f"not in MLflow: {error.message}") from error
        if not isinstance(error, RestException) or error.get_http_status_code() >= 500:
            raise NotReady(_away(url, error)) from error
        raise RedpencilError(f"MLflow at {url} refused: {error.message}") from error


def _away(url: str, error: Exception) -> str:
    words = str(error)
    why = "it took too long" if "timeout exception" in words or "timed out" in words else words[:200]
    why = "connection refused" if "refused" in words else why
    return f"MLflow at {url} does not answer ({why}); start it (`redpencil up`) or set REDPENCIL_MLFLOW_URL"


def mlmodel(folder: Path, run_id: str) -> Any:
    """The MLmodel file that lets MLflow open a bundle: its default graph, with its signature.

    What MLflow cannot run, adapters, it is told the base of.
    """
    from mlflow.models import Model

    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    graph = manifest["graphs"][manifest["precision"]]["file"]
    if adapters := manifest.get("adapters"):
        model = Model(artifact_path=BUNDLE, run_id=run_id)
        model.add_flavor("lora", data=graph, base=adapters["base"])
        return model
    model = Model(artifact_path=BUNDLE, run_id=run_id, signature=_signature(folder / graph))
    model.add_flavor(
        "onnx",
        onnx_version=installed("onnx"),
        data=graph,
        providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
        onnx_session_options=None,
        code=None,
    )
    model.add_flavor(
        "python_function", loader_module="mlflow.onnx", data=graph, python_version=python_version()
    )
    return model


def _signature(graph: Path) -> Any:
    """What a graph takes and gives; a dimension that is free is -1."""
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(end: Any) -> Any:
        tensor = end.type.tensor_type
        shape = tuple(dim.dim_value or -1 for dim in tensor.shape.dim)
        return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, end.name)

    ends = onnx.load(graph).graph
    return ModelSignature(*(Schema([spec(end) for end in side]) for side in (ends.input, ends.output)))


def verdict_tags(verdict: Verdict) -> dict[str, str]:
    """What a version's tags say of its verdict."""
    return {
        "gate.verdict": verdict.outcome.value,
        "gate.reasons": "; ".join(verdict.reasons)[:5000],  # MLflow's longest tag
        "precision": verdict.precision.value,
    }
