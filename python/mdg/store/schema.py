"""One `MetaData` for all rooms, and column types that mean the same on SQLite and PostgreSQL.

Times are UTC microseconds as integers, UIDs and identifiers are text, digests are raw bytes. Every table has a
`custodian` (HPI-O) column: several organisations may share one gateway (spec/storage 4). The migrations
in `mdg/store/migrations` make the same tables; a test compares both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, Text
from sqlalchemy.ext.compiler import compiles

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Number = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit integer that SQLite may use as its row id."""

LARGEST = (1 << 63) - 1
"""The largest value of a `Number`; a larger one is no parameter of a statement."""

Document = JSON()
"""A JSON value, kept as it was written: PostgreSQL's JSONB would reorder members, and refuse U+0000."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@compiles(Text, "postgresql")
def _in_order_of_bytes(type_: Text, compiler: Any, **context: Any) -> str:
    """Columns of text sort as Python and SQLite sort, whatever the locale of the server's database: what a study is
    made of depends on the order of its files, and an index survives a new version of the server's locales."""
    name: str = compiler.visit_TEXT(type_, **context)
    return f'{name} COLLATE "C"' if isinstance(context.get("type_expression"), Column) else name


def custodian(*, key: bool = True) -> Column[Any]:
    """The HPI-O whose row it is; part of every primary key (`key`) but those that begin with a number of a sequence."""
    return Column("custodian", Text, primary_key=key, nullable=False)


def microseconds(moment: datetime) -> int:
    """`moment` (with its offset) as UTC microseconds since 1970, the form of every time column."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """The UTC datetime of a time column."""
    return _EPOCH + timedelta(microseconds=microseconds)
