"""The command line: thin over the HTTP APIs, so that it can do nothing that they cannot."""

from __future__ import annotations

import logging
import mimetypes
from pathlib import Path
from typing import Annotated, Any

import typer

from redpencil import ports
from redpencil.errors import BadInput
from redpencil.settings import Settings
from redpencil.types import Task
from services import cli_experiment, cli_import, cli_runs, show, told
from services.cli_options import USUAL, AsJson, Model, TakesText, Version, Who, Why, in_words
from services.client import Client

app = typer.Typer(
    name="redpencil",
    help="Reads images, and gets better from the corrections that people make.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.callback()(ports.direct)

# commands in files of their own
app.add_typer(cli_experiment.experiment, name="experiment")
app.command("dataset")(cli_import.dataset)
app.command("import")(cli_import.import_)
for command in (cli_runs.retrain, cli_runs.runs, cli_runs.cancel, cli_runs.resume, cli_runs.checkpoint):
    app.command()(command)


@app.command()
@in_words
def up() -> None:
    """Start everything on this machine and keep it up until Ctrl-C.

    Serving on :8000, corrections, control and console on :8080, MLflow on :5000. All it keeps is in
    REDPENCIL_HOME (default ~/.redpencil); every port and path is a setting (`redpencil settings`).
    """
    from services import local

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    local.up(Settings(), say=lambda words: typer.echo(words))


@app.command()
@in_words
def settings(
    show_secrets: Annotated[
        bool,
        typer.Option("--show-secrets", help="keys and passwords in clear; they are *** otherwise"),
    ] = False,
    json: AsJson = False,
) -> None:
    """Show every setting with its value, its environment variable and what it means."""
    chosen = Settings().model_dump(mode="json")
    chosen = chosen if show_secrets else show.masked(chosen)
    if json:
        return show.as_json(chosen)
    rows = [
        (f"REDPENCIL_{name.upper()}", chosen[name], field.description)
        for name, field in Settings.model_fields.items()
    ]
    show.table(("variable", "value", "meaning"), rows, empty="")


@app.command()
@in_words
def predict(
    files: Annotated[list[Path], typer.Argument(help="images or PDFs", exists=True, dir_okay=False)],
    task: Annotated[Task, typer.Option(help="what is asked: the text, or a caption")] = Task.OCR,
    version: Annotated[str | None, typer.Option(help="ask this version, bypassing the experiment")] = None,
    mode: Annotated[str | None, typer.Option(help="of ocr: auto, line or page")] = None,
    group: Annotated[str | None, typer.Option(help="name of the document that the images belong to")] = None,
    json: AsJson = False,
) -> None:
    """Read images, or caption them, and print the text with the ids that corrections need.

    Examples: redpencil predict examples/receipt.jpg; redpencil predict --task caption photo.jpg
    """
    api, unread = Client(Settings()), 0
    for path in files:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        try:
            answer = api.predict(path.read_bytes(), kind, task, mode=mode, model_version=version, group=group)
        except BadInput as error:
            typer.secho(f"redpencil: {path}: {error}", err=True, fg=typer.colors.RED)
            unread += 1
        else:
            show.as_json(answer) if json else show.reading(path, answer)
    if unread:
        raise typer.Exit(1)


@app.command(cls=TakesText)
@in_words
def correct(
    prediction: Annotated[str, typer.Argument(help="prediction id, as `predict` printed it")],
    text: Annotated[str | None, typer.Argument(help="the true text; left out with --accept")] = None,
    region: Annotated[
        str | None, typer.Option(help="region id such as p0-b3; needed where there are several")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="the reading is right as it is")] = False,
    bbox: Annotated[
        str | None, typer.Option(help="instead of a region, where a line was missed: x0,y0,x1,y1 in pixels")
    ] = None,
    page: Annotated[int, typer.Option(min=0, help="of --bbox; the first is 0")] = 0,
    author: Who = None,
    json: AsJson = False,
) -> None:
    """State the truth for one line of a prediction, or for its caption.

    Examples: redpencil correct pred_0199... "Alte Drucke und Karten" --region p0-b1;
    redpencil correct pred_0199... "a missed line" --bbox 40,210,620,250
    """
    if (text is None) != accept:
        raise BadInput("give either the true text or --accept")
    body: dict[str, Any] = {"prediction_id": prediction, "region": region, "text": text, "author": author}
    body = {k: v for k, v in body.items() if v is not None} | _place(bbox, page)
    answer = Client(Settings()).send("/v1/corrections", body | {"kind": "accept" if accept else "correct"})
    if json:
        return show.as_json(answer)
    show.out.print(f"{answer['id']}: kept", markup=False)


def _place(bbox: str | None, page: int) -> dict[str, Any]:
    """Where a missed line stands; nothing where none is meant."""
    if bbox is None:
        return {}
    try:
        x0, y0, x1, y1 = map(float, bbox.split(","))
    except ValueError as e:
        raise BadInput(f"--bbox {bbox}: write it as x0,y0,x1,y1") from e
    return {"bbox": [x0, y0, x1, y1], "page": page}


@app.command()
@in_words
def revoke(
    correction: Annotated[str, typer.Argument(help="correction id, as `correct` printed it")],
    why: Annotated[str, typer.Option(help="what is wrong with it, for the record")],
    who: Who = None,
    json: AsJson = False,
) -> None:
    """Take a correction back: nothing learns from it any more, and it stays on record.

    Example: redpencil revoke corr_0199... --why 'the wrong line'
    """
    body = {"why": why} | ({"who": who} if who else {})
    answer = Client(Settings()).send(f"/v1/corrections/{correction}/revoke", body)
    if json:
        return show.as_json(answer)
    learned = ", ".join(answer["learned_by"]) or "no version"
    show.out.print(f"{correction}: revoked; {learned} learned from it", markup=False)


@app.command()
@in_words
def gate(
    version: Version,
    again: Annotated[bool, typer.Option("--again", help="judge anew against today's champion")] = False,
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Show what the gate says of a version; judged first where it was not, beside today's champion."""
    path, api = f"/v1/models/{model}/versions/{version}", Client(Settings())
    known = api.read(path)
    verdict = api.send(f"{path}/judge") if again or known["to_be_judged"] else known["verdict"]
    if json:
        return show.as_json(verdict)
    show.out.print(f"version {version}: {verdict['outcome']} (serves {verdict['precision']})", markup=False)
    for reason in verdict["reasons"]:
        show.out.print(f"  - {reason}", markup=False)
    if verdict["outcome"] != "passed":
        raise typer.Exit(1)


@app.command()
@in_words
def promote(
    version: Version,
    why: Why = "",
    override: Annotated[
        bool, typer.Option("--override", help="serve it although the gate did not pass it")
    ] = False,
    who: Who = None,
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Make a version the champion: the same as moving the alias in the MLflow page.

    Needs a passing verdict; --override needs a reason and is on record under your name.
    """
    if override and not why:
        raise BadInput("--override needs --why: the reason goes into the ledger under your name")
    action = "override" if override else "promote"
    body = {"version": version, "why": why} | ({"who": who} if who else {})
    _serving_changed(Client(Settings()).send(f"/v1/models/{model}/{action}", body), json)


@app.command()
@in_words
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="the one meant to be back; refused where it is another by now")
    ] = None,
    why: Why = "",
    who: Who = None,
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Put the previous champion back, at once; it was kept warm."""
    body = {"why": why} | ({"who": who} if who else {}) | ({"to": version} if version else {})
    _serving_changed(Client(Settings()).send(f"/v1/models/{model}/rollback", body), json)


def _serving_changed(state: dict[str, Any], json: bool) -> None:
    show.as_json(state) if json else show.lines(told.served(state))


@app.command()
@in_words
def lineage(
    id: Annotated[str, typer.Argument(help="prediction, correction, snapshot or run id, or model/version")],
    model: Model = USUAL,
    json: AsJson = False,
) -> None:
    """Where a thing comes from and what came of it, both ways.

    A bare number is a version of --model. Examples: redpencil lineage caption/2, or 2 --model caption
    """
    answer = Client(Settings()).read(f"/v1/lineage/{model}/{id}" if id.isdigit() else f"/v1/lineage/{id}")
    show.as_json(answer) if json else show.tree(answer)


@app.command()
@in_words
def status(
    model: Annotated[str | None, typer.Option(help="show this model alone")] = None, json: AsJson = False
) -> None:
    """What is up, what is served, what is running, and what was refused lately."""
    answer = Client(Settings()).read("/v1/status", model=model)
    show.as_json(answer) if json else show.lines(told.overview(answer))


@app.command()
@in_words
def demo(
    documents: Annotated[int, typer.Option(min=10, help="documents to render, six lines each")] = 20,
    seed: Annotated[int, typer.Option(help="of the rendering")] = 0,
    undo: Annotated[
        bool, typer.Option("--undo", help="instead take back what demos have corrected, and their version")
    ] = False,
) -> None:
    """Run the whole loop before your eyes: read, correct, retrain, gate, promote, read again.

    Renders documents in a type that the base model reads badly. Needs a running `redpencil up`.
    """
    from services import demo as loop

    settings = Settings()
    if undo:
        return loop.undo(Client(settings), settings, show.out.print)
    loop.play(Client(settings), settings, documents, seed, show.out.print)


if __name__ == "__main__":
    app()
