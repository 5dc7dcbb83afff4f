"""What clients may send, checked by pydantic; unknown fields are refused."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, field_validator

from redpencil.text import WRITTEN
from redpencil.types import CorrectionState, Kind, Task

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=WRITTEN)]
Words = Annotated[str, Field(max_length=2000, pattern=WRITTEN)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Word = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,40}$")]
Param = bool | int | float | str


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(Body):
    """A line on a page: its upright box, or four corners from the line's own top left, clockwise."""

    page: int = Field(0, ge=0)
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    polygon: Annotated[list[Point], Field(min_length=4, max_length=4)] | None = None

    @field_validator("bbox", "polygon")
    @classmethod
    def _finite(cls, value: list[Any] | None) -> list[Any] | None:
        numbers = [n for item in value or [] for n in (item if isinstance(item, list) else [item])]
        if not all(math.isfinite(n) for n in numbers):
            raise ValueError("coordinates must be finite numbers")
        return value


class NewCorrection(Place):
    """The truth for one line or caption: of a prediction (`region` may be left out where it has but one),
    or of a place on an image that is known here. `kind` accept takes the predicted text."""

    prediction_id: str | None = Field(None, pattern=WRITTEN, examples=["pred_0199c0ffee12_9f86d081884c7d65"])
    region: str | None = Field(None, examples=["p0-b3"])
    image: Sha256 | None = None
    text: str | None = Field(None, examples=["Alte Drucke und Karten"])
    kind: Kind = Kind.CORRECT
    author: str | None = None
    task: Task | None = Field(
        None, description="what is stated: ocr, a line's text, or caption; a prediction knows, else ocr"
    )
    audit_token: str | None = Field(None, description="as GET /v1/review/next gave it")
    seen: str | None = Field(
        None,
        description="the latest correction of the region that its author had seen, empty for none: 409 "
        "where somebody has corrected it since",
    )


def _shape(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


NewCorrections = Annotated[
    Annotated[NewCorrection, Tag("one")]
    | Annotated[list[NewCorrection], Tag("many"), Field(min_length=1, max_length=10_000)],
    Discriminator(_shape),
]


class Revocation(Body):
    at: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    who: Name
    why: Words = ""


class ImportedCorrection(NewCorrection):
    """One line of an import: a new correction, or one as the export wrote it."""

    id: Annotated[str, Field(pattern="^corr_[0-9a-f]{12}_[0-9a-f]{16}$")] | None = None
    created_at: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    revocation: Revocation | None = None
    # said by the export for people to read; derived again on import
    group: str | None = None
    model: str | None = None
    version: str | None = None
    variant: str | None = None
    predicted: str | None = None
    audit_probability: float | None = None
    state: CorrectionState | None = None


class Revoke(Body):
    why: Annotated[Words, StringConstraints(strip_whitespace=True, min_length=1)]
    who: Name | None = None


class Confirm(Body):
    why: Words = ""
    who: Name | None = None


class NewRun(Body):
    """What to train; `params` override single hyper-parameters of the recipe."""

    model: str | None = None
    recipe: Word | None = None
    params: Annotated[dict[Word, Param], Field(max_length=50)] = {}

    @field_validator("params")
    @classmethod
    def _plain(cls, params: dict[str, Param]) -> dict[str, Param]:
        for name, value in params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be finite")
            if isinstance(value, str) and len(value) > 200:
                raise ValueError(f"{name} is longer than 200 characters")
        return params


class Promote(Body):
    version: Name
    who: Name | None = None
    why: Words = ""


class Override(Body):
    version: Name
    who: Name | None = None
    why: Annotated[Words, StringConstraints(strip_whitespace=True, min_length=3)]


class Rollback(Body):
    """`to` is the version that is meant to be back; without it whichever was champion before."""

    to: Name | None = None
    who: Name | None = None
    why: Words = ""


class NewExperiment(Body):
    """`weight` is the share of requests that the challenger answers, `mirror` the share it reads unseen."""

    challenger: Name
    model: str | None = None
    weight: Share = 0.0
    mirror: Share = 0.0
    who: Name | None = None
    why: Words = ""


class Shares(Body):
    weight: Share | None = None
    mirror: Share | None = None
    who: Name | None = None
    why: Words = ""


class Ending(Body):
    who: Name | None = None
    why: Words = ""
