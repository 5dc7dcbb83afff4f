"""`python -m training.imported RECIPE [NAME=VALUE ...]`: pre-trained weights as a version of a model."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from redpencil import bundle, linepack
from redpencil.blobs import Blobs
from redpencil.errors import BadInput, RedpencilError
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import ModelVersion
from training import recipe, tokens
from training.crops import Line
from training.learner import Learner

SHOWN = 24  # lines on which the graphs are checked and INT8 is fitted; the gate judges by others


def bring_in(name: str, params: dict[str, str], settings: Settings, model: str | None = None) -> str:
    """Build a family's model from pre-trained weights, register it; returns `MODEL version N`.

    BadInput where the family cannot start without texts, or its weights are not to be had.
    """
    chosen = recipe.find(name)
    asked = recipe.model_of(chosen, settings, model)
    made = _built(chosen, params, asked)
    lineage = {"recipe": name, "origin": ", ".join(f"{k}={v}" for k, v in sorted(params.items()))}
    lines = [Line(x.image, x.text, str(n)) for n, x in enumerate(linepack.load("rehearsal")[:SHOWN])]
    with tempfile.TemporaryDirectory(prefix="redpencil-import-") as scratch:
        made.to_bundle(Path(scratch), lines, lineage)
        return f"{asked} version {register(Path(scratch), name, asked, settings)}"


def _built(chosen: recipe.Recipe, params: dict[str, str], model: str) -> Learner:
    try:
        return chosen.build(None, (), chosen.defaults.updated(params))
    except BadInput as error:
        if str(error) != tokens.EMPTY:
            raise
        raise BadInput(
            f"{chosen.name} cannot be imported: it learns its vocabulary from texts, and an import has none. "
            "Bring in images with their texts (`redpencil dataset FOLDER`), then train it on them "
            f"(`redpencil retrain --model {model} --recipe {chosen.name}`)"
        ) from error


def register(folder: Path, name: str, model: str, settings: Settings) -> str:
    """Keep a bundle and make it a version without a parent; the gate and people decide the rest."""
    with Store.open(settings.database, migrate=True) as store:
        kept = bundle.put(folder, Blobs.open(settings.blobs))
        precision = bundle.Manifest.load(folder).precision.value
        tags = {"bundle.sha256": kept, "recipe": name, "precision": precision, "parent": ""}
        version = Registry(settings.mlflow).register(model, folder, tags, description=f"{name}, imported")
        store.versions.add(ModelVersion(model, version, kept, time.time()))
        return version


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.imported", description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--model")
    parser.add_argument("params", nargs="*", metavar="NAME=VALUE")
    asked = parser.parse_intermixed_args()
    try:
        print(bring_in(asked.recipe, recipe.given(asked.params), Settings(), asked.model))
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
