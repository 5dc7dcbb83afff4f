"""A SQLite dialect that compiles a statement once per process, however many databases are opened."""

from typing import Any, ClassVar

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class CompiledOnce(SQLiteDialect_pysqlite):
    """Equal to every other of its kind: compiled statements are kept by dialect."""

    supports_statement_cache = True
    compiled: ClassVar[dict[Any, Any]] = {}

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=cls.compiled)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


def use() -> None:
    """From now on, wherever a SQLite database is opened."""
    registry.register("sqlite", __name__, CompiledOnce.__name__)
