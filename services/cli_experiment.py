"""`redpencil experiment`: start, weigh, look at and end an A/B comparison."""

from __future__ import annotations

from typing import Annotated

import typer

from redpencil.errors import Conflict
from redpencil.settings import Settings
from services import show
from services.cli_options import USUAL, AsJson, Model, Version, Who, Why, in_words
from services.client import Client

experiment = typer.Typer(
    help="Compare the challenger with the champion on live corrections.", no_args_is_help=True
)

Id = Annotated[str | None, typer.Argument(help="experiment id; default: the one of --model that goes on")]


@experiment.command("start")
@in_words
def experiment_start(
    challenger: Version,
    weight: Annotated[float, typer.Option(min=0, max=1, help="share of requests it answers")] = 0.0,
    mirror: Annotated[float, typer.Option(min=0, max=1, help="share that it reads along, unseen")] = 0.0,
    who: Who = None,
    why: Why = "",
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Give a challenger a share of the traffic; corrections decide who reads better.

    Examples: redpencil experiment start 3 --mirror 0.2; redpencil experiment start 3 --weight 0.1
    """
    body = {"model": model, "challenger": challenger, "weight": weight, "mirror": mirror, "why": why}
    answer = Client(Settings()).send("/v1/experiments", body | ({"who": who} if who else {}))
    show.as_json(answer) if json else show.tree(answer)


@experiment.command("set")
@in_words
def experiment_set(
    id: Id = None,
    weight: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    mirror: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Change the shares; nothing restarts.

    Example: redpencil experiment set --weight 0.5
    """
    body = {k: v for k, v in {"weight": weight, "mirror": mirror}.items() if v is not None}
    api = Client(Settings())
    answer = api.send(f"/v1/experiments/{id or _current(api, model)}", body, method="PATCH")
    show.as_json(answer) if json else show.tree(answer)


@experiment.command("show")
@in_words
def experiment_show(id: Id = None, model: Model = USUAL, json: AsJson = False) -> None:
    """Report CER, exact match, latency and effort per arm, and whether it can be called.

    Examples: redpencil experiment show; redpencil experiment show exp_0199...
    """
    api = Client(Settings())
    answer = api.read(f"/v1/experiments/{id or _current(api, model)}")
    show.as_json(answer) if json else show.tree(answer)


@experiment.command("end")
@in_words
def experiment_end(id: Id = None, why: Why = "", model: Model = USUAL, json: AsJson = False) -> None:
    """End it: all traffic goes to the champion again; what was learned is kept.

    Example: redpencil experiment end --why 'it reads no better'
    """
    api = Client(Settings())
    answer = api.send(f"/v1/experiments/{id or _current(api, model)}", {"why": why}, method="DELETE")
    show.as_json(answer) if json else show.tree(answer)


def _current(api: Client, model: str) -> str:
    """The experiment that is meant where none is named: the one that goes on."""
    every = api.read("/v1/experiments", model=model)["items"]
    if going := next((e for e in every if e["ended_at"] is None), None):
        return str(going["id"])
    last = f"; the last one was {every[0]['id']}" if every else ""
    raise Conflict(f"no experiment of {model} is going on{last}")
