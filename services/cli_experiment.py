"""`redpencil experiment`: start, weigh, look at and end an A/B comparison."""

from __future__ import annotations

from typing import Annotated

import typer

from redpencil.settings import Settings
from services import show
from services.cli_options import USUAL, AsJson, Model, Version, Who, Why, in_words
from services.client import Client

experiment = typer.Typer(
    help="Compare the challenger with the champion on live corrections.", no_args_is_help=True
)


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
    id: Annotated[str, typer.Argument(help="experiment id")],
    weight: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    mirror: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    json: AsJson = False,
) -> None:
    """Change the shares; nothing restarts."""
    body = {k: v for k, v in {"weight": weight, "mirror": mirror}.items() if v is not None}
    answer = Client(Settings()).send(f"/v1/experiments/{id}", body, method="PATCH")
    show.as_json(answer) if json else show.tree(answer)


@experiment.command("show")
@in_words
def experiment_show(id: Annotated[str, typer.Argument(help="experiment id")], json: AsJson = False) -> None:
    """Report CER, exact match, latency and effort per arm, and whether it can be called."""
    answer = Client(Settings()).read(f"/v1/experiments/{id}")
    show.as_json(answer) if json else show.tree(answer)


@experiment.command("end")
@in_words
def experiment_end(
    id: Annotated[str, typer.Argument(help="experiment id")], why: Why = "", json: AsJson = False
) -> None:
    """End it: all traffic goes to the champion again; what was learned is kept."""
    answer = Client(Settings()).send(f"/v1/experiments/{id}", {"why": why}, method="DELETE")
    show.as_json(answer) if json else show.tree(answer)
