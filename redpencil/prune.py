"""The bundles that a machine has fetched: what nobody has asked for in a week makes room."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, alone
from redpencil.errors import Damaged, NotFound
from redpencil.settings import Settings
from redpencil.store import Store

log = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600.0
"""Who has fetched a bundle has read it long before that."""
ROLES = ("champion", "challenger", "previous")


def prune(store: Store, blobs: Blobs, settings: Settings) -> None:
    """Remove the bundles that were not fetched again for a week, and what killed fetches left behind.

    Never one that is served or that a replica holds, and none that the blobs do not have whole. Nor
    adapters: their server reads them again when it is started anew. Other readers hold all they need.
    """
    cache = settings.home / "bundles"
    kept = named(store, settings)
    for folder in cache.glob("[0-9a-f]*"):
        if folder.name not in kept and _unused(folder) and _can_be_fetched(folder.name, blobs):
            _remove(folder)
    for left in cache.glob(".fetch-*"):
        if _unused(left):
            shutil.rmtree(left, ignore_errors=True)


def named(store: Store, settings: Settings) -> set[str]:
    """The bundles of all that should be served, or is."""
    found = set[str]()
    for model in settings.models:
        state = store.serving.get(model)
        versions = {getattr(state, role) for role in ROLES}
        versions |= {replica[role] for replica in store.replicas.list(model) for role in ROLES}
        known = (store.versions.find(model, version) for version in versions if version)
        found |= {version.bundle for version in known if version}
    return found


def _can_be_fetched(bundle: str, blobs: Blobs) -> bool:
    try:
        manifest = Manifest.from_json(blobs.get(bundle))
    except (NotFound, Damaged):
        return False
    return manifest.adapters is None and all(blobs.has(file.sha256) for file in manifest.files())


def _remove(folder: Path) -> None:
    """Out of the way first, and only if nobody has asked for it meanwhile; then, at leisure, for good."""
    with tempfile.TemporaryDirectory(
        prefix=".fetch-", dir=folder.parent, ignore_cleanup_errors=True
    ) as aside:
        with alone(folder.parent):
            if not _unused(folder):
                return
            os.rename(folder, Path(aside) / "bundle")
        log.info("bundle %s was not used for a week and is fetched again when it is", folder.name)


def _unused(folder: Path) -> bool:
    """Nobody has fetched it lately; what another process has removed is nobody's to remove."""
    return folder.exists() and time.time() - folder.stat().st_mtime > KEPT_S
