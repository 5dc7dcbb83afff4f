"""What all commands share: common options, and errors said in one sentence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer

from redpencil.errors import RedpencilError
from redpencil.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="print the whole answer as JSON")]
Who = Annotated[str | None, typer.Option("--who", help="your name for the ledger; default: the login name")]
Why = Annotated[str, typer.Option("--why", help="the reason, for the ledger")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="registered model; default: the one that reads lines",
        show_default=False,
        callback=lambda named: named or Settings().model,
    ),
]
USUAL = ""
"""Of `Model`: the setting `model`, read when a command runs."""
Version = Annotated[str, typer.Argument(help="version number, as MLflow shows it")]


def in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Print what Redpencil refuses as one sentence and exit with 1; anything else is a bug and stays loud."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except RedpencilError as e:
            typer.secho(f"redpencil: {e}", err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from e

    return wrapped
