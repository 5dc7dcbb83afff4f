"""The manifests cannot be run here; what can be checked without a cluster is."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from redpencil.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s"
MANIFESTS = sorted(FOLDER.rglob("*.yaml"))
DEV = FOLDER / "overlays" / "dev"


def kustomizations(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder's kustomization and those of the folders that it is made of."""
    mine = yaml.safe_load((folder / "kustomization.yaml").read_text())
    yield folder, mine
    for resource in mine["resources"]:
        if (folder / resource).is_dir():
            yield from kustomizations(folder / resource)


def resources(folder: Path) -> list[dict[str, Any]]:
    """All that is written out in an overlay and its base."""
    files = [
        where / resource
        for where, one in kustomizations(folder)
        for resource in one["resources"]
        if (where / resource).is_file()
    ]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [r for r in resources(DEV) if r["kind"] == kind]


def all_under(tree: Any, key: str) -> Iterator[Any]:
    """What stands under a key, however deep."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from all_under(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from all_under(value, key)


def readers() -> dict[str, Any]:
    (serving,) = of_kind("RayService")
    (group,) = serving["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return group  # type: ignore[no-any-return]


def test_every_variable_in_the_manifests_is_a_setting():
    known = {f"REDPENCIL_{name.upper()}" for name in Settings.model_fields}
    used = {name for path in MANIFESTS for name in re.findall(r"REDPENCIL_[A-Z_]+", path.read_text())}
    assert used
    assert used <= known


def test_every_listed_resource_exists_and_parses():
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            for resource in document.get("resources", []):
                assert (path.parent / resource).exists(), f"{path} lists {resource}"


def test_the_ray_version_of_the_cluster_is_the_pinned_one():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f'rayVersion: "{pinned[1]}"' in (FOLDER / "base/serving.yaml").read_text()


@pytest.mark.parametrize(("kind", "field"), [("configMap", "configMapRef"), ("secret", "secretRef")])
def test_what_pods_refer_to_exists_under_that_name(kind: str, field: str) -> None:
    """Kustomize writes a generated name's hash into Deployments, and not into a RayService."""
    made = {r["metadata"]["name"] for r in of_kind(kind[0].upper() + kind[1:])}
    for folder, one in kustomizations(DEV):
        generated = one.get(f"{kind}Generator", [])
        assert not generated or one["generatorOptions"]["disableNameSuffixHash"] is True, folder
        made |= {g["name"] for g in generated}
    used = {ref["name"] for key in (field, kind) for r in resources(DEV) for ref in all_under(r, key)}
    assert used
    assert used <= made


def test_own_images_have_the_tag_that_the_readme_builds_and_are_not_pulled_again() -> None:
    tags = {i["name"]: i["newTag"] for _, one in kustomizations(DEV) for i in one.get("images", [])}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tags == {"redpencil": version, "redpencil-mlflow": version}
    built = re.findall(r"docker build .* -t (\S+)", (FOLDER / "README.md").read_text())
    assert built == [f"{name}:{tag}" for name, tag in tags.items()]
    groups = [
        group
        for r in resources(DEV)
        for key in ("containers", "initContainers")
        for group in all_under(r, key)
    ]
    own = [c for group in groups for c in group if c["image"] in tags]
    assert {c["image"] for c in own} == set(tags)
    assert {c["imagePullPolicy"] for c in own} == {"IfNotPresent"}


def test_every_reader_holds_one_replica() -> None:
    """One without a replica has no proxy of Serve, and never becomes ready."""
    (serving,) = of_kind("RayService")
    (application,) = yaml.safe_load(serving["spec"]["serveConfigV2"])["applications"]
    assert Settings(**application["args"]).replicas == readers()["replicas"]
    assert readers()["rayStartParams"] == {"num-cpus": "1"}


def test_only_what_asks_for_a_key_is_open_beyond_the_namespace() -> None:
    policies = of_kind("NetworkPolicy")
    assert any(
        p["spec"] == {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]} for p in policies
    )
    rules = [rule for p in policies for rule in p["spec"]["ingress"]]
    assert sorted(port["port"] for r in rules if "from" not in r for port in r["ports"]) == [8000, 8080]


def test_the_secret_of_the_dev_overlay_signs_audit_tokens() -> None:
    secret = next(
        s for _, one in kustomizations(DEV) for s in one["secretGenerator"] if s["name"] == "redpencil"
    )
    given = dict(line.split("=", 1) for line in secret["literals"])
    assert given["REDPENCIL_SECRET"]
    assert given["REDPENCIL_API_KEYS"]


@pytest.mark.parametrize("given", [None, "mlflow.example:*"])
def test_the_environment_has_the_last_word_on_who_may_call_mlflow(given: str | None) -> None:
    environment = {"MLFLOW_SERVER_ALLOWED_HOSTS": given} if given else {}
    script = f". {ROOT}/mlflow/server.env; echo $MLFLOW_SERVER_ALLOWED_HOSTS $MLFLOW_DISABLE_TELEMETRY"
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [given or "mlflow:*,localhost:*,127.0.0.1:*", "true"]
