"""The manifests cannot be run here; what can be checked without a cluster is."""

import re
from pathlib import Path

import yaml

from redpencil.settings import Settings

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "k8s").rglob("*.yaml"))


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
    assert f'rayVersion: "{pinned[1]}"' in (ROOT / "deploy/k8s/base/serving.yaml").read_text()
