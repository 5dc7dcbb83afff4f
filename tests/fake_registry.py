"""MLflow's model registry in memory, for tests of those who follow it.

`down = True` makes every call fail as a stopped server would; `calls` names the writes, in order.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redpencil.errors import NotFound, NotReady
from redpencil.types import Verdict


@dataclass
class FakeRegistry:
    versions: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], Path] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    down: bool = False

    def add(self, model: str, version: str, folder: Path | None = None) -> None:
        self.versions[model, version] = {}
        if folder is not None:
            self.artifacts[model, version] = folder

    def alias(self, model: str, alias: str) -> str | None:
        self._answer()
        return self.aliases.get((model, alias))

    def set_alias(self, model: str, alias: str, version: str) -> None:
        self._answer(f"{alias}={version}")
        self._version(model, version)
        self.aliases[model, alias] = version

    def delete_alias(self, model: str, alias: str) -> None:
        self._answer(f"delete {alias}")
        self.aliases.pop((model, alias), None)

    def tags(self, model: str, version: str) -> dict[str, str]:
        self._answer()
        return dict(self._version(model, version))

    def set_tags(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        self._answer()
        self._version(model, version).update(tags)

    def log_verdict(self, model: str, version: str, verdict: Verdict) -> None:
        self.set_tags(model, version, {"gate.verdict": verdict.outcome.value})

    def download(self, model: str, version: str, into: Path) -> Path:
        self._answer()
        if (model, version) not in self.artifacts:
            raise NotFound(f"{model} {version} holds nothing")
        return Path(shutil.copytree(self.artifacts[model, version], into / "bundle"))

    def _answer(self, call: str = "") -> None:
        if self.down:
            raise NotReady("MLflow does not answer")
        if call:
            self.calls.append(call)

    def _version(self, model: str, version: str) -> dict[str, str]:
        if (model, version) not in self.versions:
            raise NotFound(f"not in MLflow: {model} {version}")
        return self.versions[model, version]
