"""What is served, what is going on and how a run ended, in few words for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.show import duration, percent, size, when

Json = Mapping[str, Any]
OVER = ("succeeded", "failed", "cancelled")


def overview(answer: Json) -> Iterator[str]:
    """The answer of /v1/status, a line for each thing that matters."""
    yield " · ".join(f"{name} {_up(part)}" for name, part in answer["parts"].items())
    disk = answer["disk"]
    yield f"disk: {size(disk['free_bytes'])} free{', which is little' if disk['low'] else ''}"
    for name, now in answer["models"].items():
        yield ""
        first, *rest = _model(name, now)
        yield f"{name}: {first}"
        yield from (f"  {line}" for line in rest)


def _up(part: Json) -> str:
    return "up" if part["up"] else f"DOWN ({part['why']})"


def _model(name: str, now: Json) -> Iterator[str]:
    if not (now["versions"] or now["corrections"] or now["last_run"]):
        yield f"no version yet: `redpencil import` brings one, `redpencil retrain --model {name}` trains one"
        return
    if now["versions"]:
        yield from served(now["serving"])
    else:
        yield f"no version yet: `redpencil retrain --model {name}` trains one"
    corrected = f"{now['corrections']:,} corrected, {now['new_corrections']:,} of them new"
    yield f"{now['to_review']:,} wait for review; {corrected}"
    for run in now["runs"]:
        yield going(run)
    last = now["last_run"]
    if last and last["state"] in OVER:
        yield f"last run: {ended(last)}"
    if now["judging"]:
        yield f"version {now['judging']} is being judged"
    if now["next_run_at"]:
        yield f"next run: {when(now['next_run_at'])}"
    if now["schedule"]:
        yield now["schedule"]


def served(state: Json) -> Iterator[str]:
    """Which versions answer, whether registry and replicas agree, and what was refused last."""
    yield _roles(state)
    if state["experiment"]:
        yield _experiment(state["experiment"], state["model"])
    if state.get("why"):  # the answer to a promotion that has to wait
        yield state["why"]
    behind = [r for r in state["replicas"] if not r["up_to_date"]]
    for replica in behind:
        yield f"replica {replica['replica']} is not there yet: {replica['error'] or 'it is loading'}"
    if why := state["registry"]["why"]:
        yield why
    if state["aliases"] != "moved":
        yield "MLflow's aliases have yet to follow"
    if refusal := state["last_refusal"]:
        yield f"refused {when(refusal['at'])}: version {refusal['to_version']}, {refusal['why']}"


def _roles(state: Json) -> str:
    if not state["champion"]:
        return "no version is served: promote one"
    told = f"version {state['champion']} is served"
    if state["previous"]:
        told += f", {state['previous']} is kept warm to go back to"
    if state["challenger"]:
        told += f", {state['challenger']} challenges it"
    if state["experiment"]:
        told += f" ({state['weight']:.0%} of the traffic, mirrored {state['mirror']:.0%})"
    return told


def _experiment(id: str, model: str) -> str:
    """Which experiment goes on, and what to type to look at it and to end it."""
    command = "`redpencil experiment {} --model " + model + "`"
    return f"{id}: {command.format('show')} says who reads better by now, {command.format('end')} ends it"


def runs(answer: Json) -> Iterator[str]:
    """The answer of /v1/training-runs, a line for each run: when it was asked for, and how it stands."""
    if not answer["items"]:
        yield "no run yet: `redpencil retrain` starts one"
    for one in answer["items"]:
        yield f"{when(one['created_at'])} {one['model']}: {run(one)}"
    if answer["next"]:
        yield "... and older ones: --limit says how many are listed"


def checkpoints(run: str, answer: Json) -> Iterator[str]:
    """The answer of /v1/training-runs/ID/checkpoints: each epoch with what was measured then."""
    if not answer["items"]:
        yield f"{run} kept none (a run keeps every so many-th epoch with --param keep_every=NUMBER)"
    for one in answer["items"]:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in one["scores"].items())
        yield f"epoch {one['epoch']}: {scores}"


def run(run: Json) -> str:
    """How a run stands."""
    return ended(run) if run["state"] in OVER else going(run)


def going(run: Json) -> str:
    """A run that waits or works."""
    phase = f", {run['phase']}" if run["phase"] else ""
    steps = _steps(run) if run["phase"] == "train" else ""
    stopping = ", stopping" if (run.get("progress") or {}).get("cancel") else ""
    return f"{run['id']} ({run['recipe']}): {run['state']}{phase}{steps}{stopping}"


def _steps(run: Json) -> str:
    """How far the training is, what it reads so far, and the time that it needs yet."""
    facts = run.get("progress") or {}
    told = f", step {facts['step']} of {facts['steps']}" if "step" in facts else ""
    if facts.get("val_cer") is not None:
        told += f", validation CER {percent(facts['val_cer'])}"
    return told + (f", some {duration(run['eta_s'])} left" if run.get("eta_s") else "")


def ended(run: Json) -> str:
    """A run that is over: what came of it, or why nothing did."""
    took = duration((run["finished_at"] or 0) - (run["started_at"] or run["finished_at"] or 0))
    version = f"version {run['version']}" if run["version"] else ""
    came = "; ".join(part for part in (run["error"] or "", version) if part) or "nothing came of it"
    return f"{run['id']} ({run['recipe']}) {run['state']} after {took}: {came}"
