"""What all commands share: common options, and errors said in one sentence."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand

from redpencil.errors import RedpencilError
from redpencil.settings import Settings


def _named(model: str) -> str:
    try:
        return model or Settings().model
    except ValidationError as error:
        raise typer.BadParameter(_wrong_settings(error)) from error


AsJson = Annotated[bool, typer.Option("--json", help="print the whole answer as JSON")]
Who = Annotated[str | None, typer.Option("--who", help="your name for the ledger; default: the login name")]
Why = Annotated[str, typer.Option("--why", help="the reason, for the ledger")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="registered model; default: the one that reads lines",
        show_default=False,
        callback=_named,
    ),
]
USUAL = ""
"""Of `Model`: the setting `model`, read when a command runs."""
Version = Annotated[str, typer.Argument(help="version number, as MLflow shows it")]


class TakesText(TyperCommand):
    """A command whose text may begin with a minus: its options begin with two, but for -h."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options, ctx.help_option_names = True, ["--help"]  # -h is also in "-5 Euro each"
        options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        before = args[: args.index("--")] if "--" in args else args
        for word in before:
            if re.match("--[a-z]", word) and word.partition("=")[0] not in options:
                raise typer.BadParameter(f"No such option: {word}; before a text that begins so, put --", ctx)
        asked = ["--help" if word == "-h" else word for word in before]
        return super().parse_args(ctx, asked + args[len(before) :])


def in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Print what Redpencil refuses as one sentence and exit with 1; anything else is a bug and stays loud."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except RedpencilError as e:
            typer.secho(f"redpencil: {e}", err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from e
        except ValidationError as e:
            if e.title != Settings.__name__:
                raise
            typer.secho(f"redpencil: {_wrong_settings(e)}", err=True, fg=typer.colors.RED)
            raise typer.Exit(1) from e

    return wrapped


def _wrong_settings(error: ValidationError) -> str:
    """Each setting that cannot be used, by its environment variable, and why."""
    return "; ".join(
        f"{'REDPENCIL_' + str(e['loc'][0]).upper() if e['loc'] else 'the settings'}: {e['msg']}"
        for e in error.errors()
    )
