"""What corrections say of the two arms of an experiment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from redpencil.evidence import Exposure, Report, report
from redpencil.labels import Arm, Label, label
from redpencil.store import Store
from redpencil.types import Correction, Experiment, Kind, Prediction, Task, Variant
from services.promote import entries

WORDS = "Of captions words are counted: what is said of characters, and the CER, is of words."

ARM: dict[str, Arm] = {Variant.CHAMPION.value: "A", Variant.CHALLENGER.value: "B"}


def compared(store: Store, experiment: Experiment, task: Task, alpha: float = 0.05) -> Report:
    """The report by now: labels of answers given while it went on, also those that come later."""
    answers = store.experiments.answers(experiment.id)
    found = report(
        labels(store, experiment),
        now=time.time(),
        exposures=exposures(answers.keys, weights(store, experiment)),
        latencies_ms={ARM[variant]: taken for variant, taken in answers.latencies_ms.items()},
        alpha=alpha,
    )
    return replace(found, reasons=(*found.reasons, WORDS)) if task is Task.CAPTION else found


def labels(store: Store, experiment: Experiment) -> list[Label]:
    """One label per corrected line of an assigned answer; a mirrored answer is its shadow."""
    versions = (experiment.champion, experiment.challenger)
    said = store.corrections.for_versions(experiment.model, versions, experiment.started_at)
    said = [c for c in said if c.prediction and c.predicted is not None and c.variant in ARM]
    clients = store.experiments.clients(experiment, sorted({str(c.prediction) for c in said}))
    mirrors = store.predictions.mirrors_of(list(clients))
    return [
        label(c, ARM[c.variant], clients[id], _shadow(c, mirrors.get(id)))
        for c in said
        if (id := str(c.prediction)) in clients
    ]


def exposures(keys: Mapping[tuple[str, int], int], weight_at: Mapping[int, float]) -> list[Exposure]:
    """Keys by arm and by the weight under which each was first seen, from those by variant and revision."""
    counts: Counter[tuple[float, Arm]] = Counter()
    for (variant, revision), n in keys.items():
        if revision in weight_at:
            counts[weight_at[revision], ARM[variant]] += n
    seen = sorted({weight for weight, _ in counts})
    return [Exposure(weight, counts[weight, "A"], counts[weight, "B"]) for weight in seen]


def weights(store: Store, experiment: Experiment) -> dict[int, float]:
    """The challenger's share at each revision of the desired state, as the ledger has it."""
    found = {}
    for entry in entries(store, experiment.model):
        if entry.at < experiment.started_at:
            break
        if entry.detail.get("experiment") == experiment.id:
            found[int(entry.detail["revision"])] = float(entry.detail["weight"])
    return found


def _shadow(correction: Correction, mirror: Prediction | None) -> str | None:
    """What the other arm read at the same place, unseen.

    None for a caption that a person edited or accepted: it takes after the one shown, where another
    would have done as well. Only one typed unseen owes nothing to either arm.
    """
    if mirror is None or (correction.task is Task.CAPTION and correction.kind is not Kind.BLIND):
        return None
    same = [b for b in mirror.blocks if (b.page, b.polygon) == (correction.page, correction.polygon)]
    return same[0].text if same else None
