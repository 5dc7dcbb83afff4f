"""Every setting with its default, unit and help; built only at entry points.

Each field is also an environment variable: `REDPENCIL_HOME`, `REDPENCIL_SERVING_PORT`, and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from redpencil.ports import HERE
from redpencil.types import Task


class Settings(BaseSettings):
    """All that can be set, in one flat list."""

    model_config = SettingsConfigDict(env_prefix="REDPENCIL_", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: Path.home() / ".redpencil", description="folder of everything kept"
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in home")
    blobs_url: str = Field("", description="folder or s3://bucket/prefix; empty: home/blobs")
    storage_path: str = Field("", description="Ray Train checkpoints; empty: home/training")
    mlflow_url: str = Field("", description="MLflow server; empty: the local one")
    mlflow_database_url: str = Field("", description="MLflow's own database; empty: SQLite in home")
    serving_url: str = Field("", description="prediction API; empty: the local one")
    services_url: str = Field("", description="corrections and control API; empty: the local one")
    vlm_url: str = Field(
        "",
        description="server that runs adapted vision-language models (vLLM, or python -m "
        "training.vlm_server), http://[KEY@]host:port/v1; empty: none",
    )
    host: str = Field(
        "127.0.0.1", description="IPv4 address or name to listen on; beyond loopback needs api_keys"
    )
    mlflow_host: str = Field(
        "127.0.0.1",
        description="where the local MLflow listens; it asks for no key, and whoever reaches it can promote",
    )
    api_keys: str = Field("", description="comma-separated keys that clients must send as Bearer")
    secret: str = Field("", description="signs audit tokens; empty: a random one kept in home")
    serving_port: int = Field(8000, ge=1, le=65535, description="port of the prediction API")
    services_port: int = Field(8080, ge=1, le=65535, description="port of corrections, control and console")
    mlflow_port: int = Field(5000, ge=1, le=65535, description="port of the local MLflow server")

    model: str = Field("ocr", description="registered model that answers /v1/ocr")
    caption_model: str = Field("caption", description="registered model that answers /v1/captions")
    replicas: int = Field(1, ge=1, description="serving replicas; each holds both models")
    threads: int = Field(0, ge=0, description="cores that read, per replica and model; 0: all of them")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where serving runs its models")
    haproxy: bool = Field(True, description="serve through HAProxy (faster) instead of Ray's proxy")
    queue_limit: int = Field(64, ge=1, description="images waiting per replica and model before 429")
    max_upload_bytes: int = Field(32 * 2**20, ge=1, description="largest request body, bytes")
    max_pixels: int = Field(60_000_000, ge=1, description="largest page, pixels")
    max_pages: int = Field(50, ge=1, description="most pages of one document")
    poll_s: float = Field(0.5, gt=0, description="how often replicas read the desired state, s")

    reconcile_s: float = Field(1.0, gt=0, description="how often registry aliases are polled, s")
    retrain_cron: str = Field("", description="cron expression for retraining each model; empty: none")
    retrain_after: int = Field(0, ge=0, description="retrain a model after so many new corrections; 0: off")
    recipe: str = Field("ppocr", description="recipe of the OCR model's runs")
    caption_recipe: str = Field("catr", description="recipe of the caption model's runs")
    recipes: str = Field("", description="folders of your own model families, with : between")
    max_attempts: int = Field(3, ge=1, description="tries of a run that keeps being interrupted")
    audit_share: float = Field(0.2, ge=0, le=1, description="share of review drawn at random")
    train_workers: int = Field(
        0, ge=0, description="Ray Train workers, processes of their own; 0: the run's own process"
    )
    train_threads: int = Field(0, ge=0, description="CPU threads for training; 0: one per core")
    otlp_endpoint: str = Field("", description="OpenTelemetry collector for traces; empty: none")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given by name, then the environment; no files beside these."""
        return init_settings, env_settings

    @field_validator("host", "mlflow_host")
    @classmethod
    def _ipv4(cls, host: str) -> str:
        if ":" in host or not host:
            raise ValueError(f"{host!r} is no IPv4 address or name; IPv6 is not listened on")
        return host

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if not self.model or not self.caption_model or self.model == self.caption_model:
            raise ValueError("model and caption_model must be two different names")
        return self

    @model_validator(mode="after")
    def _three_ports(self) -> Self:
        if len({self.serving_port, self.services_port, self.mlflow_port}) < 3:
            raise ValueError("serving_port, services_port and mlflow_port must be three different ports")
        return self

    @model_validator(mode="after")
    def _keys_beyond_loopback(self) -> Self:
        if self.host not in HERE and not self.keys():
            raise ValueError(
                f"host {self.host} is beyond loopback: set api_keys (REDPENCIL_API_KEYS), so that not "
                "everybody on the network can read, correct and promote"
            )
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The registered models that are served here, the OCR model first."""
        return self.model, self.caption_model

    def task_of(self, model: str) -> Task:
        """What a model does; its corrections are those of that task."""
        return Task.CAPTION if model == self.caption_model else Task.OCR

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{quote(str(self.home / 'redpencil.db'))}"

    @property
    def blobs(self) -> str:
        return self.blobs_url or str(self.home / "blobs")

    @property
    def storage(self) -> str:
        return self.storage_path or str(self.home / "training")

    @property
    def mlflow(self) -> str:
        return self.mlflow_url or f"http://{near(self.mlflow_host)}:{self.mlflow_port}"

    @property
    def serving(self) -> str:
        return self.serving_url or f"http://{near(self.host)}:{self.serving_port}"

    @property
    def services(self) -> str:
        return self.services_url or f"http://{near(self.host)}:{self.services_port}"

    def keys(self) -> frozenset[str]:
        return frozenset(k.strip() for k in self.api_keys.split(",") if k.strip())


def near(host: str) -> str:
    """Where this machine itself reaches what listens on an address."""
    return "127.0.0.1" if host == "0.0.0.0" else host
