"""Corrections in bulk, as JSON lines: what the export writes the import reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from redpencil.asgi import error_body, request_id_of
from redpencil.errors import BadInput, NotFound
from redpencil.store import Store
from redpencil.store.corrections import Revocation
from redpencil.types import Correction, CorrectionState, Task
from services.audit import Auditor
from services.bodies import ImportedCorrection
from services.drafts import Known, imported
from services.house import Caller, Here, House, name_of_person
from services.once import Answer, Once, OnceOnly
from services.references import NOBODY, named
from services.views import of_correction

router = APIRouter(prefix="/v1/corrections", tags=["corrections"])
PAGE = 500
JSONL = {"application/x-ndjson": {"schema": {"type": "string"}}}


@dataclass
class Report:
    """What an import did, line by line (lines count from 1)."""

    accepted: list[Correction] = field(default_factory=list)
    duplicates: int = 0
    revoked: list[Revocation] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        kept = {"accepted": len(self.accepted), "duplicates": self.duplicates}
        return kept | {"refused": self.refused, "ids": [c.id for c in self.accepted]}


@router.post("/import", openapi_extra={"requestBody": {"content": JSONL, "required": True}})
async def import_corrections(
    request: Request,
    house: Here,
    caller: Caller,
    once: OnceOnly,
    atomic: Annotated[bool, Query(description="keep nothing where any line is refused")] = False,
) -> Response:
    """Keep every good line, in one transaction, and say of each bad one why it was refused.

    A line that was exported here and is here already is counted as a duplicate. Captions of one image that
    name no author are so many references, whichever import they come by: their authors are `reference 1`,
    `reference 2` ... A text that is there already keeps its name.
    """
    data, request_id = await request.body(), request_id_of(request.scope)
    return await run_in_threadpool(once, lambda: _imported(house, data, caller, atomic, request_id, once))


def _imported(house: House, data: bytes, caller: str, atomic: bool, request_id: str, once: Once) -> Answer:
    report = read(house, data, caller)
    if atomic and report.refused:
        said = BadInput(f"{len(report.refused)} line(s) refused, nothing was kept; see `refused`")
        status, _, body = error_body(said, request_id)
        return status, body | {"refused": report.refused}
    with once.transaction() as answered:
        kept = named(house.store, report.accepted, report.revoked)
        oldest_first = sorted(kept, key=lambda c: c.created_at)  # an export is newest first
        house.store.corrections.add_many(oldest_first, report.revoked)
        return answered(200, report.view())


def read(house: House, data: bytes, caller: str) -> Report:
    """Check every line of an import; nothing is kept yet."""
    report, known = Report(), Known(house)
    seen: dict[str, Correction] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            if line.strip():
                said = ImportedCorrection.model_validate_json(line)
                _take(known, said, NOBODY if _is_nameless(said) else caller, seen, report)
        except (ValidationError, BadInput, NotFound) as error:
            report.refused.append({"line": number, "reason": _reason(error)})
    report.accepted = list(seen.values())
    return report


def _is_nameless(line: ImportedCorrection) -> bool:
    """A caption that nobody is named for: who sends it did not say it."""
    return line.task is Task.CAPTION and line.image is not None and line.author is None


def _take(
    known: Known, line: ImportedCorrection, author: str, seen: dict[str, Correction], report: Report
) -> None:
    correction, revocation = imported(known, line, author), None
    if said := line.revocation:
        at = time.time() if said.at is None else said.at
        revocation = Revocation(correction.id, at, name_of_person(said.who), said.why)
    if line.id is not None and _is_there(known.house.store, correction, seen):
        report.duplicates += 1
    else:
        seen[correction.id] = correction
    if revocation is not None:
        report.revoked.append(revocation)


def _is_there(store: Store, correction: Correction, seen: dict[str, Correction]) -> bool:
    if (there := seen.get(correction.id)) is None:
        if not store.corrections.state_of([correction.id]):
            return False
        there = store.corrections.get(correction.id)
    author = correction.author if correction.author != NOBODY else there.author
    if _content(there) != _content(replace(correction, author=author)):
        raise BadInput(f"{correction.id} exists with other content, and corrections are never edited")
    return True


def _content(c: Correction) -> tuple[Any, ...]:
    return c.image, c.page, c.polygon, c.text, c.kind, c.author, c.prediction, c.region, c.audit_probability


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}".removeprefix(": ") for p in problems[:5])


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": JSONL}})
def export_corrections(
    house: Here,
    task: Task | None = None,
    author: str | None = None,
    state: CorrectionState | None = None,
    image: str | None = None,
) -> StreamingResponse:
    """Every correction as one JSON object a line, newest first, revoked ones too unless filtered."""
    filters = {"task": task, "author": author, "state": state, "image": image}
    lines = written(house.store, house.auditor, filters)
    return StreamingResponse(lines, media_type="application/x-ndjson")


def written(store: Store, auditor: Auditor, filters: dict[str, Any]) -> Iterator[str]:
    after: str | None = None
    while found := store.corrections.list(**filters, after=after, limit=PAGE):
        for correction, state in found:
            yield json.dumps(_line(store, auditor, correction, state), ensure_ascii=False) + "\n"
        after = found[-1][0].id


def _line(store: Store, auditor: Auditor, c: Correction, state: CorrectionState) -> dict[str, Any]:
    view = of_correction(c, state)
    del view["bbox"]  # the polygon says it
    if state is CorrectionState.REVOKED and (revocation := store.corrections.revocation(c.id)):
        view["revocation"] = {k: revocation[k] for k in ("at", "who", "why")}
    if c.audit_probability is not None and c.prediction and c.region:
        view["audit_token"] = auditor.token(c.prediction, c.region, c.audit_probability)
    return {name: value for name, value in view.items() if value not in (None, "")} | {"text": c.text}
