"""Training runs from the command line: ask for one, list them, stop one, let one go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from redpencil.errors import BadInput, Conflict
from redpencil.settings import Settings
from services import show, told
from services.cli_options import USUAL, AsJson, Model, in_words
from services.client import Client

Wait = Annotated[bool, typer.Option(help="follow the run until it ends")]
Of = Annotated[str | None, typer.Option("--model", help="of this model alone")]


@in_words
def retrain(
    recipe: Annotated[
        str | None, typer.Option(help="how it learns; default: the setting `recipe` or `caption_recipe`")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "--set", help="a hyper-parameter as name=value; repeatable"),
    ] = None,
    wait: Wait = True,
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Train a new version on all corrections, export it, and have the gate judge it.

    Ctrl-C stops following, not the run.
    Examples: redpencil retrain --set steps=800; redpencil retrain --model caption --set lr=1e-4
    """
    body: dict[str, Any] = {"model": model, "params": _pairs(param or [])}
    api = Client(Settings())
    run = api.send("/v1/training-runs", body | ({"recipe": recipe} if recipe else {}))
    _told(follow(api, run["id"], quiet=json) if wait else run, json)


@in_words
def runs(
    limit: Annotated[int, typer.Option(min=1, max=200, help="so many at most")] = 20,
    model: Of = None,
    json: AsJson = False,
) -> None:
    """List training runs, newest first: when each was asked for, its family, and how far it is.

    Examples: redpencil runs; redpencil runs --model caption --limit 5
    """
    answer = Client(Settings()).read("/v1/training-runs", model=model, limit=limit)
    show.as_json(answer) if json else show.lines(told.runs(answer))


@in_words
def cancel(
    run: Annotated[str, typer.Argument(help="run id, as `runs` lists it")], json: AsJson = False
) -> None:
    """Stop a run: at once where it waits, soon where it works. What it has learned so far is dropped.

    Example: redpencil cancel run_0199...
    """
    answer = Client(Settings()).send(f"/v1/training-runs/{run}/cancel")
    show.as_json(answer) if json else show.lines([told.run(answer)])


@in_words
def resume(
    run: Annotated[str | None, typer.Argument(help="run id; default: the latest that failed")] = None,
    wait: Wait = True,
    model: Of = None,
    json: AsJson = False,
) -> None:
    """Let a failed run go on from its last finished step and checkpoint. (An interrupted one does by itself.)

    Refused where it would learn what was revoked or corrected anew since: then retrain.
    Examples: redpencil resume; redpencil resume run_0199... --no-wait
    """
    api = Client(Settings())
    again = api.send(f"/v1/training-runs/{run or _last_failed(api, model)}/resume")
    _told(follow(api, again["id"], quiet=json) if wait else again, json)


@in_words
def checkpoint(
    run: Annotated[str, typer.Argument(help="run id, as `runs` lists it")],
    epoch: Annotated[
        int | None, typer.Argument(help="make a version of this one; left out: list what there is")
    ] = None,
    wait: Wait = True,
    json: AsJson = False,
) -> None:
    """List the checkpoints that outlive a run, or make a version of one: exported, judged, ready to be asked.

    Such a version is asked with `redpencil predict --version N`, and promoted like any other.
    Examples: redpencil checkpoint run_0199...; redpencil checkpoint run_0199... 5
    """
    api, path = Client(Settings()), f"/v1/training-runs/{run}/checkpoints"
    if epoch is not None:
        made = api.send(f"{path}/{epoch}")
        return _told(follow(api, made["id"], quiet=json) if wait else made, json)
    answer = api.read(path)
    show.as_json(answer) if json else show.lines(told.checkpoints(run, answer))


def _last_failed(api: Client, model: str | None) -> str:
    failed = api.read("/v1/training-runs", model=model, state="failed", limit=1)["items"]
    if not failed:
        raise Conflict("no run has failed, so there is none to resume; `redpencil retrain` starts one")
    return str(failed[0]["id"])


def _told(run: dict[str, Any], json: bool) -> None:
    if json:
        return show.as_json(run)
    show.lines(_outcome(run))
    if run["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _outcome(run: dict[str, Any]) -> Iterator[str]:
    """How a run stands, and where to look next."""
    yield told.run(run)
    if run["version"]:
        other = "" if run["model"] == Settings().model else f" --model {run['model']}"
        yield f"  what the gate says: redpencil gate {run['version']}{other}"
    if page := run["links"].get("run"):
        yield f"  its curves: {page}"


def follow(api: Client, run_id: str, quiet: bool = False) -> dict[str, Any]:
    """Until the run has ended, with its phase and remaining time on a terminal."""
    with show.out.status(f"{run_id}: queued", spinner="line") as status:
        while True:
            run: dict[str, Any] = api.read(f"/v1/training-runs/{run_id}")
            if run["state"] in told.OVER:
                return run
            status.update("" if quiet else told.going(run))
            time.sleep(0.5)


def _pairs(params: list[str]) -> dict[str, str]:
    """name=value strings as a dictionary; the server checks names and types."""
    split = [p.partition("=") for p in params]
    if wrong := [p for p, (_, sign, _) in zip(params, split, strict=True) if not sign]:
        raise BadInput(f"--set {wrong[0]}: write it as name=value")
    return {name: value for name, _, value in split}
