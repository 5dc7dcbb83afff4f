"""`python -m training.model_card RUN_OR_VERSION FOLDER`: a version as a folder for the Hugging Face hub.

The card (README.md) is written from what is on record of the run: nothing in it is claimed by hand. A
family that knows a form of its own for the hub (`to_hub`) writes that, any other its bundle.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.errors import BadInput, NotFound, RedpencilError
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Split
from training import recipe
from training.freeze import freeze
from training.hyper import Hyper
from training.job import BEST, Job, load, restore
from training.learner import Learner
from training.record import Record
from training.unlabelled import ask

WRITTEN = "Validation texts were written by the model, without seeing the truth."
KNOWN = "No text was set aside: `heart_` says how well some texts are known by heart that it learned."
MEASURES = ("loss", "cer", "wer", "exact", "bleu4", "rouge_l", "cider_d")
SHOWN: tuple[str, ...] = ("lr", "schedule", "warmup", "batch", "accumulate", "steps", "passes")
SHOWN += ("report_every", "clip", "weight_decay", "precision", "augment", "seed")


@runtime_checkable
class Published(Protocol):
    """A model with a form of its own for the hub."""

    def to_hub(self, folder: Path, merged: bool) -> dict[str, Any]:
        """Write weights and tokenizer; returns the card's header, and under "use" how to read with them."""


def publish(name: str, folder: Path, settings: Settings, merged: bool = False) -> Path:
    """Write weights, tokenizer and card of a run or version into a new folder."""
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with Store.open(settings.database) as store:
        record, blobs = Record.of(store, settings, name), Blobs.open(settings.blobs)
        model, parts = learner(store, blobs, record, settings)
    if isinstance(model, Published):
        header = model.to_hub(folder, merged)
    elif parts is None:
        raise NotFound(f"{name} has no version yet, and its family has no other form than a bundle")
    else:
        header = {}
        shutil.copytree(parts, folder, dirs_exist_ok=True)
    made = bundle.Manifest.load(parts) if parts else None
    (folder / "README.md").write_text(card(name, record, header, made), "utf-8")
    return folder


def learner(store: Store, blobs: Blobs, record: Record, settings: Settings) -> tuple[Learner, Path | None]:
    """The model, and its bundle where it has one; a run without a version gives its best checkpoint."""
    if record.version is None:
        assert record.run is not None
        return checkpoint(ask(freeze(store, record.run, settings), store, blobs), blobs), None
    folder = bundle.fetch(record.version.bundle, blobs, settings.home / "bundles")
    family = recipe.find(bundle.Manifest.load(folder).lineage.get("recipe", ""))
    return family.build(folder, (), family.defaults), folder


def checkpoint(job: Job, blobs: Blobs) -> Learner:
    best = job.folder / BEST
    if not best.exists():
        raise NotFound(f"run {job.run.id} has neither a version nor a checkpoint here")
    model = job.build(blobs, job.lines(blobs))
    restore(model, load(best))
    return model


def card(name: str, record: Record, header: Mapping[str, Any], made: bundle.Manifest | None) -> str:
    """The README of the folder: a header that the hub understands, then the facts."""
    told = {k: v for k, v in header.items() if k != "use"}
    front = ["---", *(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in told.items()), "---", ""]
    run, version = record.run, record.version
    title = f"{version.model}, version {version.version}" if version else f"{run.model if run else name}"
    body = [f"# {title}", "", *origin(record), "", *data(record), *learning(record, made)]
    use = header.get("use")
    return "\n".join([*front, *body, *results(record), *(["## Use", "", use, ""] if use else [])])


def origin(record: Record) -> Iterator[str]:
    run, version = record.run, record.version
    if run:
        yield f"Trained by Redpencil's recipe `{run.recipe}` in run `{run.id}`"
        parent = run.params.get("parent")
        yield f"from version {parent} of the same model." if parent else "anew."
    if version:
        yield f"Bundle `{version.bundle}`."
    if not run:
        yield "Imported, not trained here."


def data(record: Record) -> Iterator[str]:
    """Where the texts come from; an image that came with several sets counts once, with its latest text."""
    if record.snapshot is None:
        return
    taught, held = record.taught, record.snapshot.side(Split.HOLDOUT)
    yield from ("## Data", "")
    yield f"Snapshot `{record.snapshot.id}`: {len(taught)} texts of {groups(taught)} documents to learn"
    yield f"from, {len(held)} of {groups(held)} held out for life. Those to learn from are said by"
    yield ", ".join(f"{author} ({count})" for author, count in record.authors.items()) + "."
    if record.left_out:
        yield f"{record.left_out} more were left out as probably wrong."
    yield ""


def groups(members: Sequence[Any]) -> int:
    return len({m.group for m in members})


def learning(record: Record, made: bundle.Manifest | None) -> Iterator[str]:
    if record.run is None:
        return
    hyper = recipe.find(record.run.recipe).hyper(record.run.params, made)
    own = [k for k in hyper.to_dict() if k not in Hyper.__dataclass_fields__]
    yield from ("## Learning", "", "| parameter | value |", "|---|---|")
    yield from (f"| `{k}` | {getattr(hyper, k)} |" for k in (*SHOWN, *own))
    yield ""


def results(record: Record) -> Iterator[str]:
    """Every checkpoint as it was marked, and the verdict on what would be served."""
    marks = [f"{where}_{name}" for where in ("val", "heart") for name in MEASURES]
    keys = [k for k in ("loss", *marks) if any(k in r for r in record.history)]
    if keys:
        yield from ("## Results", "", f"| step | {' | '.join(keys)} |", f"|---|{'---|' * len(keys)}")
        for r in record.history:
            yield f"| {r['step']} | {' | '.join(f'{r[k]:.4f}' if k in r else '' for k in keys)} |"
        yield from ("", KNOWN if "heart_loss" in keys else WRITTEN, "")
    if record.verdict:
        yield f"The gate says **{record.verdict.outcome.value}** of the exported model:"
        yield from ("", *(f"- {reason}" for reason in record.verdict.reasons), "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.model_card", description=__doc__)
    parser.add_argument("what", metavar="RUN_OR_VERSION", help="run_..., or MODEL/VERSION")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--merged", action="store_true", help="whole models instead of adapters")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="put it on the hub, where you are logged in")
    asked = parser.parse_args()
    try:
        publish(asked.what, asked.folder, Settings(), asked.merged)
        if asked.upload:
            upload(asked.folder, asked.upload)
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 1
    print(asked.folder)
    return 0


def upload(folder: Path, name: str) -> None:
    """Put the folder on the Hugging Face hub as a private model, with the login of its own client."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().create_repo(name, private=True, exist_ok=True)
        HfApi().upload_folder(repo_id=name, folder_path=folder)
    except (HfHubHTTPError, OSError) as error:
        raise RedpencilError(f"the hub did not take {name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
