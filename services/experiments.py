"""Experiments over HTTP: give a challenger a share of the traffic, and read what corrections say of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from redpencil.errors import BadInput, Conflict, Refused
from redpencil.ids import new_id
from redpencil.types import Experiment, Outcome, ServingState
from services import promote
from services.bodies import Ending, NewExperiment, Shares
from services.compare import compared
from services.house import Caller, Here, House, person
from services.once import Answer, Once, OnceOnly

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


@router.post("", status_code=201)
def start(body: NewExperiment, house: Here, caller: Caller, once: OnceOnly) -> Response:
    """Try a challenger: `weight` of the requests are answered by it, `mirror` of them read along unseen.

    One experiment per model goes on at a time. Answering needs a version that the gate passed or
    that a person let in; reading along does not.
    """
    return once(lambda: _started(house, body, person(body.who, caller), once))


def _started(house: House, body: NewExperiment, who: str, once: Once) -> Answer:
    model = house.known(body.model)
    state = house.store.serving.get(model)
    house.store.versions.get(model, body.challenger)
    _check_arms(state, body.challenger)
    if body.weight:
        _check_cleared(house, model, body.challenger)
    if going := house.store.experiments.current(model):
        end_it = f"end it first (`redpencil experiment end {going.id}`)"
        raise Conflict(f"an experiment of {model}, {going.id}, is going on already; {end_it}")
    _check_shares(body)
    made = Experiment(new_id("exp"), model, str(state.champion), body.challenger, time.time(), who)
    shares: dict[str, Any] = {"weight": body.weight, "mirror": body.mirror}

    def begun(now: ServingState) -> ServingState:
        _check_arms(now, body.challenger, made.champion)
        return replace(now, challenger=body.challenger, experiment=made.id, **shares)

    with once.transaction() as answered:
        house.store.experiments.start(made)
        promote.share(house.store, model, begun, "experiment", who, body.why)
        answer = answered(201, view(house, made.id))
    house.reconciler.wake()
    return answer


@router.get("")
def list_experiments(house: Here, model: str | None = None) -> dict[str, Any]:
    """Newest first, without their reports."""
    return {"items": [asdict(e) for e in house.store.experiments.list(house.known(model))]}


@router.get("/{id}")
def one(
    id: str,
    house: Here,
    alpha: Annotated[float, Query(gt=0, lt=0.5, description="chance of a false alarm")] = 0.05,
) -> dict[str, Any]:
    """The report: who reads better by late labels, or not yet; true at any moment one looks."""
    return view(house, id, alpha)


@router.patch("/{id}")
def change(id: str, body: Shares, house: Here, caller: Caller) -> dict[str, Any]:
    """Change the shares; replicas follow within a second, nothing restarts."""
    experiment = _going_on(house, id)
    if body.weight is None and body.mirror is None:
        raise BadInput("say the new weight, mirror or both")
    if body.weight:
        _check_cleared(house, experiment.model, experiment.challenger)
    shares: dict[str, Any] = {
        k: v for k, v in {"weight": body.weight, "mirror": body.mirror}.items() if v is not None
    }
    _share(house, experiment, lambda s: replace(s, **shares), "shares", person(body.who, caller), body.why)
    return view(house, id)


@router.delete("/{id}")
def end(
    id: str, house: Here, caller: Caller, body: Annotated[Ending | None, Body()] = None
) -> dict[str, Any]:
    """End it: the champion answers everything again; its labels and report stay."""
    asked = body or Ending()
    experiment, who = _going_on(house, id), person(asked.who, caller)
    free: dict[str, Any] = {"challenger": None, "experiment": None, "weight": 0.0, "mirror": 0.0}
    why = asked.why or f"ended by {who}"
    _share(house, experiment, lambda s: replace(s, **free), "experiment-end", who, why)
    house.reconciler.wake()
    return view(house, id)


def view(house: House, id: str, alpha: float = 0.05) -> dict[str, Any]:
    experiment = house.store.experiments.get(id)
    state = house.store.serving.get(experiment.model)
    going = state.experiment == id
    shares = {"weight": state.weight if going else 0.0, "mirror": state.mirror if going else 0.0}
    arms = {"A": experiment.champion, "B": experiment.challenger}
    task = house.settings.task_of(experiment.model)
    report = compared(house.store, experiment, task, alpha).to_dict()
    return asdict(experiment) | shares | {"arms": arms, "task": task.value, "report": report}


def _share(
    house: House,
    experiment: Experiment,
    to: Callable[[ServingState], ServingState],
    action: str,
    who: str,
    why: str,
) -> None:
    def same(state: ServingState) -> ServingState:
        if state.experiment != experiment.id:
            raise Conflict(f"{experiment.id} is not what is served any more; look at /v1/status")
        return to(state)

    promote.share(house.store, experiment.model, same, action, who, why)


def _going_on(house: House, id: str) -> Experiment:
    experiment = house.store.experiments.get(id)
    if experiment.ended_at is not None:
        raise Conflict(f"{id} has ended: {experiment.why}")
    return experiment


def _check_arms(state: ServingState, challenger: str, champion: str | None = None) -> None:
    if state.champion is None:
        raise Conflict(f"{state.model} has no champion yet to compare with")
    if state.champion == challenger:
        raise BadInput(f"version {challenger} is the champion; a challenger is another version")
    if champion not in (None, state.champion):
        raise Conflict(f"the champion has just become {state.champion}; look, and start again")


def _check_shares(body: NewExperiment) -> None:
    if not (body.weight or body.mirror):
        raise BadInput(
            "an experiment without shares compares nothing: give weight, the share of requests that the "
            "challenger answers, or mirror, the share that it reads along unseen (such as 0.2), or both"
        )


def _check_cleared(house: House, model: str, version: str) -> None:
    """Answers reach people: the gate passed the version, or somebody let it in and nobody rolled it back."""
    verdict = promote.standing(house.store, model, version)
    if verdict is not None and verdict.outcome is Outcome.PASSED:
        return
    if not house.store.ledger.deployments(model, version) or promote.undone(house.store, model, version):
        said = (
            f"has not judged version {version} beside today's champion (`redpencil gate {version}` does it)"
        )
        if verdict is not None:
            said = f"says {verdict.outcome.value} of version {version}"
        raise Refused(f"the gate {said}, so it may read along (mirror) but not answer (weight)")
