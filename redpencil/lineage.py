"""Where a thing came from and what came of it, both ways, as a tree for people and programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redpencil.errors import NotFound
from redpencil.snapshot import side_of
from redpencil.types import Correction, LedgerEntry, ModelVersion, Prediction, Run, Snapshot, Split

if TYPE_CHECKING:
    from redpencil.store import Store

Tree = dict[str, Any]


def trace(store: Store, id: str) -> Tree:
    """What is known of a prediction, correction, snapshot, run, or `model/version`.

    Every tree has `came_from` and `led_to`; the ids in it can be traced in turn.
    """
    model, slash, version = id.rpartition("/")
    if slash:
        return _of_version(store, store.versions.get(model, version))
    for prefix, of in _KINDS.items():
        if id.startswith(prefix):
            return of(store, id)
    if len(id) == 64:
        return _of_snapshot(store, store.snapshots.get(id))
    raise NotFound(
        f"{id[:80]!r} has no lineage. Give an id pred_, corr_ or run_, a snapshot's, or model/version."
    )


def _of_prediction(store: Store, id: str) -> Tree:
    p = store.predictions.get(id)
    corrections = [c for c, _ in store.corrections.list(prediction=id, limit=len(p.blocks) * 20 + 100)]
    shadow = store.predictions.mirrors_of([id]).get(id)
    return {
        "prediction": id,
        **_facts(store, p),
        "came_from": {"version": _origin(store, p.model, p.version), **_maybe("mirror_of", p.mirror_of)},
        "led_to": {
            "corrections": [_fate(store, c) for c in corrections],
            **_maybe("mirrored_as", shadow and shadow.id),
        },
    }


def _facts(store: Store, p: Prediction) -> Tree:
    image = store.images.get(p.image)
    assert image is not None  # a prediction refers to its image
    return {
        "created_at": p.created_at,
        "image": p.image,
        "group": image.group,
        "side": side_of(image.group).value,
        "variant": p.variant.value,
        "revision": p.revision,
        "text": [block.text for block in p.blocks],
    }


def _of_correction(store: Store, id: str) -> Tree:
    c = store.corrections.get(id)
    origin: Tree = {"image": c.image, "group": c.group, "side": side_of(c.group).value}
    if c.prediction is not None:
        origin |= {"prediction": c.prediction, "region": c.region, "predicted": c.predicted}
        origin["version"] = _origin(store, c.model, c.version)
    fate = _fate(store, c)
    return {name: fate.pop(name) for name in _STATED} | {"came_from": origin, "led_to": fate}


_STATED = ("correction", "created_at", "author", "kind", "text", "state")


def _fate(store: Store, c: Correction) -> Tree:
    """A correction and what came of it."""
    side = side_of(c.group).value
    learned = store.versions.learned_from(c.id)
    return {
        "correction": c.id,
        "created_at": c.created_at,
        "author": c.author,
        "kind": c.kind.value,
        "text": c.text,
        "state": store.corrections.state_of([c.id])[c.id].value,
        "snapshots": [{"snapshot": s, "side": side} for s in store.snapshots.containing(c.id)],
        "learned_by": [_name(v) for v in learned],
        "deployed": [entry for v in learned for entry in _deployments(store, v)],
        **_maybe("doubted", _doubted(store, c.id)),
        **_maybe("revoked", store.corrections.revocation(c.id)),
    }


def _doubted(store: Store, id: str) -> Tree | None:
    """Which runs left a correction out and why, and who confirmed it; None where no run did."""
    runs = [{"run": d.run, "why": d.why} for d in store.doubts.of_correction(id) if d.left_out]
    return {"left_out_by": runs, **_maybe("confirmed", store.doubts.confirmation(id))} if runs else None


def _of_snapshot(store: Store, snapshot: Snapshot) -> Tree:
    return {
        "snapshot": snapshot.id,
        "task": snapshot.task.value,
        "created_at": store.snapshots.created_at(snapshot.id),
        "came_from": {"corrections": _sides(snapshot)},
        "led_to": {
            "runs": [_work(run) for run in store.runs.of_snapshot(snapshot.id)],
            "versions": [_consequence(store, v) for v in store.versions.of_snapshot(snapshot.id)],
        },
    }


def _of_run(store: Store, id: str) -> Tree:
    run = store.runs.get(id)
    origin: Tree = {"trigger": run.trigger, "params": run.params}
    if run.snapshot is not None:
        origin["snapshot"] = _frozen(store, run.snapshot, id)
    version = run.version and store.versions.find(run.model, run.version)
    led_to = {"version": _consequence(store, version)} if version else {}
    return _work(run) | {"came_from": origin, "led_to": led_to}


def _of_version(store: Store, v: ModelVersion) -> Tree:
    answers = store.predictions.count(v.model, v.version)
    return {
        **_consequence(store, v),
        "created_at": v.created_at,
        "came_from": _roots(store, v),
        "led_to": {
            "predictions": answers,
            "grown": [_name(g) for g in store.versions.grown_from(v.model, v.version)],
        },
    }


def _roots(store: Store, v: ModelVersion) -> Tree:
    roots: Tree = {"bundle": v.bundle, "ancestors": _ancestors(store, v)}
    if v.run is not None:
        roots["run"] = v.run
    if v.snapshot is not None:
        roots["snapshot"] = _frozen(store, v.snapshot, v.run)
    return roots


def _origin(store: Store, model: str, version: str) -> Tree:
    """A version and, in short, where it came from."""
    v = store.versions.find(model, version)
    if v is None:
        return {"version": f"{model}/{version}", "note": "not registered in this database"}
    return _consequence(store, v) | {
        "bundle": v.bundle,
        "snapshot": v.snapshot,
        "run": v.run,
        "ancestors": _ancestors(store, v),
    }


def _consequence(store: Store, v: ModelVersion) -> Tree:
    """A version and how it was judged and used."""
    verdict = store.versions.verdict(v.model, v.version)
    return {
        "version": _name(v),
        "verdict": verdict and verdict.outcome.value,
        "deployed": _deployments(store, v),
    }


def _ancestors(store: Store, v: ModelVersion) -> list[str]:
    """The versions that it grew from, its parent first."""
    names: list[str] = []
    parent = v.parent
    while parent is not None and f"{v.model}/{parent}" not in names:
        names.append(f"{v.model}/{parent}")
        known = store.versions.find(v.model, parent)
        parent = known.parent if known else None
    return names


def _frozen(store: Store, id: str, run: str | None) -> Tree:
    """A snapshot, and those of its corrections that the run doubted and did not learn from."""
    left_out = sorted(store.doubts.left_out(run)) if run else []
    return {
        "snapshot": id,
        "corrections": _sides(store.snapshots.get(id)),
        **_maybe("left_out", left_out or None),
    }


def _sides(snapshot: Snapshot) -> dict[str, list[str]]:
    return {split.value: [m.correction for m in snapshot.side(split)] for split in Split}


def _work(run: Run) -> Tree:
    return {"run": run.id, "recipe": run.recipe, "state": run.state.value, "created_at": run.created_at}


def _deployments(store: Store, v: ModelVersion) -> list[Tree]:
    return [_deployment(entry) for entry in store.ledger.deployments(v.model, v.version)]


def _deployment(e: LedgerEntry) -> Tree:
    return {
        "version": f"{e.model}/{e.to_version}",
        "at": e.at,
        "action": e.action,
        "who": e.who,
        "why": e.why,
    }


def _name(v: ModelVersion) -> str:
    return f"{v.model}/{v.version}"


def _maybe(name: str, value: Any) -> Tree:
    return {} if value is None else {name: value}


_KINDS: dict[str, Callable[[Store, str], Tree]] = {
    "pred_": _of_prediction,
    "corr_": _of_correction,
    "run_": _of_run,
}
