"""How storing and looking up may fail, for those who go on working then."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from redpencil.errors import RedpencilError

DatabaseFailed = SQLAlchemyError
"""What the database says where the store has no words of its own for it."""
FAILURES = (OSError, DatabaseFailed, RedpencilError)
"""Of disk, database and blobs; anything else is a mistake of ours."""


def first_line(error: BaseException) -> str:
    """What happened, in the database's own words where it was the database."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
