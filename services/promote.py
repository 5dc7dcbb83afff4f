"""The transitions of what is served: each one row and one ledger entry, in one transaction.

The registry's aliases follow the database, not the other way round: a transition that is meant to
move aliases is entered as owed, and stays owed until `settle` has moved them. So a rollback needs
no MLflow, and a process killed between the two leaves a debt that the next reconcile pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from redpencil.errors import Conflict, NotFound, Refused
from redpencil.ids import new_id
from redpencil.registry import Registry
from redpencil.store import Store
from redpencil.types import LedgerEntry, Outcome, ServingState, Verdict

CHAMPION, CHALLENGER, PREVIOUS = ALIASES = "champion", "challenger", "previous"
OURSELVES = "redpencil"
EARNED = ("promote", "adopt")
"""By which the gate lets a version in; an override is a person's."""
TRIES = 5
PAGE = 50


def promote(
    store: Store, model: str, version: str, who: str, why: str, action: str = "promote"
) -> ServingState:
    """Make a version the champion; the old one stays warm as previous, a running experiment ends.

    Says nothing about whether it may: see `admit`. But Conflict where another became champion since the
    gate judged it. Already the champion: nothing happens.
    """
    verdict = store.versions.verdict(model, version)

    def to(state: ServingState) -> ServingState:
        if action == "promote" and verdict and not standing(store, model, version):
            raise Conflict(f"{unjudged(store, model, version)}; try again, and it is judged beside that")
        return _crowned(state, version)

    return _change(store, model, to, action, version, who, why, _judgement(verdict))


def rollback(store: Store, model: str, who: str, why: str, to: str | None = None) -> ServingState:
    """Put the previous champion back. It was champion before, so it needs no new verdict.

    `to` is the version that the person means: Conflict where it is another one by now; nothing happens
    where it is the champion already. Refused for what only a person had let in and a rollback took away.
    """

    def back(state: ServingState) -> ServingState:
        if to is not None and to == state.champion:
            return state
        if state.previous is None:
            raise Conflict(f"{model} has no previous champion to go back to; promote a version instead")
        if to not in (None, state.previous):
            raise Conflict(f"the previous champion is version {state.previous} by now, not {to}: look again")
        if undone(store, model, state.previous):
            raise Refused(
                f"version {state.previous} was let in by a person and rolled back since: to serve it again "
                "override the gate anew"
            )
        return _crowned(state, state.previous)

    return _change(store, model, back, "rollback", None, who, why, {})


def undone(store: Store, model: str, version: str) -> bool:
    """Whether a person let a version in, never the gate, and a rollback has taken it away again."""
    changes = [e for e in store.ledger.deployments(model) if version in (e.from_version, e.to_version)]
    last = changes[-1] if changes else None
    taken = last is not None and (last.action, last.from_version) == ("rollback", version)
    return taken and version not in earned(changes)


def standing(store: Store, model: str, version: str) -> Verdict | None:
    """The gate's word on a version beside today's champion; None where it has not said one."""
    verdict, state = store.versions.verdict(model, version), store.serving.get(model)
    before = earned(store.ledger.deployments(model, version))
    return None if to_be_judged(state, version, verdict, before) else verdict


def unjudged(store: Store, model: str, version: str) -> str:
    """Why a version has still to be judged; empty where it has not."""
    verdict, state = store.versions.verdict(model, version), store.serving.get(model)
    return to_be_judged(state, version, verdict, earned(store.ledger.deployments(model, version)))


def to_be_judged(state: ServingState, version: str, verdict: Verdict | None, before: Collection[str]) -> str:
    """The same of a verdict that is at hand; `before` are the versions that have earned their place.

    What was held against an earlier champion is to be judged anew; what passed and was served before is not.
    """
    if verdict is None:
        return f"version {version} has no verdict yet"
    if state.champion == version or verdict.champion == (state.champion or ""):
        return ""
    if version in before and verdict.outcome is Outcome.PASSED:
        return ""
    beside = verdict.champion or "no champion"
    return f"version {version} was judged beside {beside}, and {state.champion} is served now"


def earned(deployments: Iterable[LedgerEntry]) -> set[str]:
    """The versions that the gate let in."""
    return {str(e.to_version) for e in deployments if e.action in EARNED}


def admit(store: Store, model: str, version: str) -> Verdict | None:
    """The passing verdict that lets a version be served, None where it has still to be judged.

    Refused tells the gate's reasons, NotFound that there is no such version.
    """
    store.versions.get(model, version)
    verdict = standing(store, model, version)
    if verdict is not None and verdict.outcome is not Outcome.PASSED:
        raise Refused(
            f"the gate says {verdict.outcome.value} of {model} {version}: {'; '.join(verdict.reasons)}"
        )
    return verdict


def refuse(store: Store, model: str, version: str, who: str, why: str) -> None:
    """Enter that a version was not let in; once, however often it is seen."""
    state = store.serving.get(model)
    last = next(iter(store.ledger.list(model, limit=1)), None)
    if last is None or (last.action, last.to_version, last.why) != ("refuse", version, why):
        store.ledger.append(entry(model, "refuse", who, why, state.champion, version))


def share(
    store: Store, model: str, to: Callable[[ServingState], ServingState], action: str, who: str, why: str
) -> ServingState:
    """Start, change or end an experiment: `to` gives the new shares."""
    return _change(store, model, to, action, None, who, why, {})


def owed(store: Store, model: str) -> frozenset[str]:
    """The aliases that have still to be moved to where the database says."""
    moved, found = 0, set[str]()  # the revision up to which all are where they should be
    for e in entries(store, model):
        if e.detail.get("aliases") == "moved":
            moved = max(moved, int(e.detail["revision"]))
        elif e.detail.get("aliases") == "owed":
            if int(e.detail["revision"]) <= moved:
                break
            found |= set(e.detail.get("moves", ALIASES))
    return frozenset(found)


def settle(store: Store, registry: Registry, model: str) -> ServingState:
    """Move the aliases that are owed, and enter it. NotReady, still owed, where MLflow is down.

    Others are left alone: somebody may have moved one, and waits for the gate.
    """
    while True:
        state = store.serving.get(model)
        gone = point(registry, state, owed(store, model))
        if store.serving.get(model).revision == state.revision:
            break
    words = f"champion is {state.champion}, previous {state.previous or 'none'}"
    if gone:
        words += f"; deleted in MLflow: {', '.join(gone)}"
    done = {"aliases": "moved", "revision": state.revision}
    store.ledger.append(entry(model, "aliases", OURSELVES, words, None, state.champion, **done))
    return state


def point(registry: Registry, state: ServingState, aliases: Collection[str] = ALIASES) -> list[str]:
    """Let these aliases point at what is served; returns the versions that the registry no longer has."""
    gone = []
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        version = getattr(state, alias)
        if alias not in aliases or (version is None and alias != CHALLENGER):
            continue
        try:
            _point(registry, state, alias, version)
        except NotFound:
            gone.append(version)
    return gone


def entries(store: Store, model: str) -> Iterator[LedgerEntry]:
    """The ledger of a model, newest first."""
    after: str | None = None
    while page := store.ledger.list(model, after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def entry(
    model: str, action: str, who: str, why: str, source: str | None, to: str | None, **detail: Any
) -> LedgerEntry:
    return LedgerEntry(new_id("led"), time.time(), who, action, model, source, to, why, detail)


def _crowned(state: ServingState, version: str) -> ServingState:
    if state.champion == version:
        return state
    free: dict[str, Any] = {"challenger": None, "weight": 0.0, "mirror": 0.0, "experiment": None}
    return replace(state, champion=version, previous=state.champion, **free)


def _change(
    store: Store,
    model: str,
    to: Callable[[ServingState], ServingState],
    action: str,
    version: str | None,
    who: str,
    why: str,
    detail: dict[str, Any],
) -> ServingState:
    """Compare and swap, again from the start where somebody else was quicker."""
    for _ in range(TRIES):
        old = store.serving.get(model)
        new = to(old)
        if new == old:
            return old
        new = replace(new, revision=old.revision + 1)
        moves = _moves(old, new)
        debt = {"aliases": "owed", "moves": moves} if moves else {}
        told = {
            "revision": new.revision,
            "experiment": new.experiment,
            "weight": new.weight,
            "mirror": new.mirror,
        }
        said = entry(model, action, who, why, old.champion, version or new.champion, **debt, **told, **detail)
        try:
            changed = store.serving.change(new, said)
        except Conflict:
            continue
        if old.experiment is not None and changed.experiment is None:
            ending = why if changed.champion == old.champion else f"{changed.champion} became champion"
            store.experiments.end(old.experiment, ending)
        return changed
    raise Conflict(f"somebody else is changing what {model} serves at this moment; look, and try again")


def _moves(old: ServingState, new: ServingState) -> list[str]:
    """The aliases that a change moves: with the champion all, since its challenger's alias goes."""
    if new.champion != old.champion:
        return list(ALIASES)
    return [alias for alias in ALIASES if getattr(new, alias) != getattr(old, alias)]


def _point(registry: Registry, state: ServingState, alias: str, version: str | None) -> None:
    """A challenger's alias is set while it is tried, and goes when it has become the champion."""
    if version is not None:
        registry.set_alias(state.model, alias, version)
    elif registry.alias(state.model, alias) in (state.champion, state.previous):
        registry.delete_alias(state.model, alias)


def _judgement(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"verdict": None}
    said = {
        "verdict": verdict.outcome.value,
        "judged_against": verdict.champion,
        "reasons": list(verdict.reasons),
    }
    return said | {"precision": verdict.precision.value}
