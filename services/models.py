"""Versions and what is served, over HTTP: promote, roll back, override, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from redpencil.errors import Conflict, NotFound, NotReady, RedpencilError, Refused
from redpencil.store import Store
from redpencil.types import ModelVersion, ServingState, Verdict
from services import promote
from services.bodies import Override, Promote, Rollback
from services.house import Caller, Here, House, person
from services.once import Answer, Once, OnceOnly
from services.promote import CHAMPION
from services.reconcile import OVERRIDE_TAG
from services.views import of_entry, of_version

router = APIRouter(prefix="/v1/models", tags=["models"])
SETTLE_S = 1.0
LOAD_S = 20.0
JUDGE_S = 110.0


@router.get("")
def list_models(house: Here) -> dict[str, Any]:
    return {"items": [serving(model, house) for model in house.models]}


@router.get("/{model}/versions")
def versions(model: str, house: Here) -> dict[str, Any]:
    """Newest first, each with the gate's verdict, where it came from, and its role."""
    state, store = house.store.serving.get(house.known(model)), house.store
    verdicts, before = store.versions.verdicts(model), promote.earned(store.ledger.deployments(model))
    said = [(v, *verdicts.get(v.version, (None, 0))) for v in store.versions.list(model)]
    return {"items": [_version(house, state, v, verdict, before, items) for v, verdict, items in said]}


@router.get("/{model}/versions/{version}")
def version(model: str, version: str, house: Here) -> dict[str, Any]:
    """One version, with every correction's fate and its tags in MLflow (null while that is down)."""
    state, store = house.store.serving.get(house.known(model)), house.store
    known, verdict = store.versions.get(model, version), store.versions.verdict(model, version)
    deployments = store.ledger.deployments(model, version)
    try:
        tags = house.registry.tags(model, version)
    except (NotReady, NotFound):
        tags = None
    view = _version(house, state, known, verdict, promote.earned(deployments))
    return view | {"tags": tags, "deployments": [of_entry(e) for e in deployments]}


@router.post("/{model}/versions/{version}/judge")
def judge(model: str, version: str, house: Here) -> dict[str, Any]:
    """Have the gate judge a version against today's champion; answers with the verdict."""
    house.store.versions.get(house.known(model), version)
    asked_at = time.time()
    verdict = house.store.versions.verdict(model, version)
    if verdict and verdict.champion and house.store.serving.get(model).champion == version:
        raise Conflict(
            f"version {version} is the champion itself: it was judged beside {verdict.champion} before it "
            "was served, and there is nothing to judge it beside now"
        )
    house.judge.ask(model, version)
    house.reconciler.wake()
    verdict = _awaited(house, model, version, asked_at)
    try:
        house.registry.log_verdict(model, version, verdict)
        told = True
    except NotReady:
        told = False  # the reconciler tells it when the version's alias is moved
    return asdict(verdict) | {"told_mlflow": told}


@router.post("/{model}/promote")
def promote_version(model: str, body: Promote, house: Here, caller: Caller, once: OnceOnly) -> Response:
    """Make a version the champion, as moving the alias in MLflow does.

    Passed: 200, served. Never judged beside today's champion: 202, the gate judges it, then it is
    promoted or refused.
    Failed or inconclusive: 409 with the gate's reasons.
    """
    return once(lambda: _promoted(house, house.known(model), body, person(body.who, caller), once))


def _promoted(house: House, model: str, body: Promote, who: str, once: Once) -> Answer:
    try:
        verdict = promote.admit(house.store, model, body.version)
    except Refused as error:
        promote.refuse(house.store, model, body.version, who, str(error))
        raise
    if verdict is None and house.store.serving.get(model).champion != body.version:
        return _to_be_judged(house, model, body, who)
    _loadable(house, model, body.version)
    with once.transaction() as answered:
        promote.promote(house.store, model, body.version, who, body.why)
        answered(200, serving(model, house))
    return 200, _settled(house, model)


def _to_be_judged(house: House, model: str, body: Promote, who: str) -> Answer:
    """Point the alias at it, so that from here it goes as with any alias that a person moved."""
    if promote.owed(house.store, model):  # else paying that debt would move the alias back
        promote.settle(house.store, house.registry, model)
    state = house.store.serving.get(model)
    house.registry.set_alias(model, CHAMPION, body.version)
    house.store.ledger.append(promote.entry(model, "ask", who, body.why, state.champion, body.version))
    house.judge.ask(model, body.version)
    house.reconciler.wake()
    words = (
        f"{promote.unjudged(house.store, model, body.version)}; it is judged now, then promoted or refused"
    )
    return 202, serving(model, house) | {"state": "judging", "why": words}


@router.post("/{model}/rollback")
def rollback(model: str, body: Rollback, house: Here, caller: Caller, once: OnceOnly) -> Response:
    """Put the previous champion back, at once; MLflow's alias follows, now or when it is up again.

    409 where `to` is not the previous champion (any more), and where a person, not the gate, had let it
    in and somebody has rolled it back since.
    """

    def back() -> Answer:
        who = person(body.who, caller)
        with once.transaction() as answered:
            promote.rollback(house.store, house.known(model), who, body.why, body.to)
            answered(200, serving(model, house))
        return 200, _settled(house, model)

    return once(back)


@router.post("/{model}/override")
def override(model: str, body: Override, house: Here, caller: Caller, once: OnceOnly) -> Response:
    """Serve a version although the gate did not pass it: by name and reason, and on record."""

    def forced() -> Answer:
        who = person(body.who, caller)
        _loadable(house, house.known(model), body.version)
        if house.store.serving.get(model).champion == body.version:
            raise Conflict(f"version {body.version} is the champion already; there is nothing to override")
        with once.transaction() as answered:
            promote.promote(house.store, model, body.version, who, body.why, "override")
            answered(200, serving(model, house))
        _tag(house, lambda: {OVERRIDE_TAG: f"{who}: {body.why}"}, model, body.version)
        return 200, _settled(house, model)

    return once(forced)


@router.get("/{model}/serving")
def serving(model: str, house: Here) -> dict[str, Any]:
    """What should be served, what each replica has loaded, how the registry stands, the last refusal."""
    state = house.store.serving.get(house.known(model))
    replicas = house.store.replicas.list(model)
    for replica in replicas:
        replica["up_to_date"] = replica["revision"] == state.revision and not replica["error"]
    refusal = next((e for e in house.store.ledger.list(model, limit=200) if e.action == "refuse"), None)
    return asdict(state) | {
        "replicas": replicas,
        "registry": asdict(house.reconciler.standings[model]),
        "aliases": "pending" if promote.owed(house.store, model) else "moved",
        "last_refusal": None if refusal is None else of_entry(refusal),
    }


def _version(
    house: House,
    state: ServingState,
    known: ModelVersion,
    verdict: Verdict | None,
    before: Collection[str],
    items: int | None = None,
) -> dict[str, Any]:
    view, version = of_version(known, verdict, house.settings.mlflow, items), known.version
    role = next((r for r in ("champion", "challenger", "previous") if getattr(state, r) == version), None)
    return view | {"role": role, "to_be_judged": promote.to_be_judged(state, version, verdict, before)}


def _awaited(house: House, model: str, version: str, asked_at: float) -> Verdict:
    deadline = time.monotonic() + JUDGE_S
    while time.monotonic() < deadline:
        verdict = house.store.versions.verdict(model, version)
        if verdict is not None and verdict.judged_at >= asked_at:
            return verdict
        if why := house.judge.failed_since(model, version, asked_at):
            raise RedpencilError(f"the gate could not judge {model} {version}: {why}")
        time.sleep(0.2)
    raise NotReady(f"the gate is still judging {model} {version}; look again in a while", retry_after_s=30)


def _settled(house: House, model: str) -> dict[str, Any]:
    """Serving has changed; registry and replicas have a while to follow, so that what is said is so."""
    house.reconciler.wake()
    for waited, longest_s in ((promote.owed, SETTLE_S), (_loading, LOAD_S)):
        deadline = time.monotonic() + longest_s
        while waited(house.store, model) and time.monotonic() < deadline:
            time.sleep(0.02)
    return serving(model, house)


def _loading(store: Store, model: str) -> bool:
    """Whether a replica has yet to load what should be served, and can."""
    revision = store.serving.get(model).revision
    return any(r["revision"] != revision and not r["error"] for r in store.replicas.list(model))


def _loadable(house: House, model: str, version: str) -> None:
    bundle = house.store.versions.get(model, version).bundle
    if not house.blobs.has(bundle):
        raise NotFound(f"the bundle of {model} {version}, {bundle}, is gone; restore it from a backup")


def _tag(house: House, tags: Callable[[], dict[str, str]], model: str, version: str) -> None:
    try:
        house.registry.set_tags(model, version, tags())
    except (NotReady, NotFound):
        return  # the ledger has it; the tag only repeats it for readers of MLflow
