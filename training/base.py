"""The first version of the model: PP-OCRv6's line recogniser out of the rapidocr package.

`python -m training.base` makes it a bundle, registers it, and leaves it to the gate. Once there is
a version it does nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from importlib.metadata import version as installed
from pathlib import Path

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest
from redpencil.errors import Damaged
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import ModelVersion

MADE = 5  # raise it when the same package is to give another bundle


def write(folder: Path) -> Manifest:
    """Write the base bundle, FP32 and INT8, into an existing folder; takes about 20 CPU-seconds."""
    from redpencil import linepack
    from training import export
    from training.recipes import ppocr

    source = ppocr.base_file()
    lineage = {
        "origin": f"rapidocr {installed('rapidocr')}, {source.name}",
        "origin_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "recipe": "ppocr",
    }
    return export.to_bundle(ppocr.build(None, ()), folder, linepack.load("rehearsal"), lineage)


def kept(home: Path) -> Path:
    """The folder of the base bundle under `home`, written on first use; whole or not there."""
    folder = home / "base" / f"rapidocr-{installed('rapidocr')}-{MADE}"
    if not _is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as beside:
            made = Path(beside) / "bundle"
            made.mkdir()
            write(made)
            made.rename(folder)
    return folder


def register(settings: Settings) -> str | None:
    """Make the base bundle version 1 of the model; None where the model has a version already."""
    with Store.open(settings.database, migrate=True) as store:
        if store.versions.list(settings.model):
            return None
        folder = kept(settings.home)
        name = bundle.put(folder, Blobs.open(settings.blobs))
        precision = Manifest.load(folder).precision
        tags = {"bundle.sha256": name, "recipe": "ppocr", "precision": precision.value, "parent": ""}
        told = "PP-OCRv6 (small) as it comes in the rapidocr package, Apache-2.0"
        version = Registry(settings.mlflow).register(settings.model, folder, tags, description=told)
        store.versions.add(ModelVersion(settings.model, version, name, time.time()))
        return version


def _is_whole(folder: Path) -> bool:
    try:
        return bool(Manifest.load(folder))
    except Damaged:
        return False


def main() -> None:
    settings = Settings()
    version = register(settings)
    if version:
        sys.stdout.write(f"{settings.model} version {version} is the base model\n")


if __name__ == "__main__":
    main()
