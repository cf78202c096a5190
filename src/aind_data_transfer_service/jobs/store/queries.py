"""Lists of jobs: what may be asked for, and the statements that answer within milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aind_data_transfer_service.jobs.models import ID_LENGTH, storable
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import tables

MAX_PAGE_SIZE = 1000
_SHORTEST_ID_WORD = 6


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list, and how.

    Attributes
    ----------
    states : sequence of JobState
        Only jobs in one of these; empty for all.
    text : str
        Words that must all occur in the job's name, submitter, project or subject, in any case;
        words of six characters and more also in its id, which short ones would meet by chance.
    submitter : str
        Only this person's jobs.
    since, until : datetime, optional
        Only jobs submitted at or after, and before.
    sort : str
        One of `tables.SORTABLE`.
    page : int
        From 1.
    """

    states: Sequence[JobState] = ()
    text: str = ""
    submitter: str = ""
    since: datetime | None = None
    until: datetime | None = None
    sort: str = "submitted_at"
    descending: bool = True
    page: int = 1
    page_size: int = 50

    def __post_init__(self) -> None:
        """Refuse what no list can be made of."""
        if self.sort not in tables.SORTABLE:
            known = ", ".join(tables.SORTABLE)
            raise ValueError(f'"{self.sort}" is no column to sort by; use one of {known}')
        if self.page < 1 or not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"pages count from 1, and hold 1 to {MAX_PAGE_SIZE} jobs")


def count_statement(query: JobQuery, is_sqlite: bool) -> sa.Select[*tuple[Any, ...]]:
    """Compose the question of how many jobs the whole list has."""
    return (
        sa.select(sa.func.count())
        .select_from(tables.jobs)
        .where(*_conditions(query, is_sqlite, indexed=True))
    )


def page_statement(
    query: JobQuery, columns: Sequence[sa.ColumnElement[bool]], total: int, is_sqlite: bool
) -> sa.Select[*tuple[Any, ...]]:
    """Compose the question for one page of a list of `total` jobs.

    The page's rows are found along an index alone and fetched afterwards; a page in the second half
    is reached from the end of the list.
    """
    offset = (query.page - 1) * query.page_size
    size = max(0, min(query.page_size, total - offset))
    backwards = offset > total // 2
    if backwards:
        offset = max(0, total - offset - size)
    keys = (
        sa.select(tables.jobs.c.seq)
        .where(*_page_conditions(query, is_sqlite))
        .order_by(*_order(query.sort, query.descending != backwards, is_sqlite))
        .limit(size)
        .offset(offset)
    ).subquery()
    return (
        sa.select(*columns)
        .join(keys, keys.c.seq == tables.jobs.c.seq)
        .order_by(*_order(query.sort, query.descending, is_sqlite))
    )


def _page_conditions(query: JobQuery, is_sqlite: bool) -> list[sa.ColumnElement[bool]]:
    """Translate the filters for a walk along the index of the column to sort by.

    A text is looked for first, in a narrow index of its own; the walk then meets only keys.
    """
    if not (query.text and is_sqlite):
        return _conditions(query, is_sqlite, indexed=query.sort == "state")
    found = sa.select(tables.jobs.c.seq).where(*_conditions(query, is_sqlite, indexed=True))
    return [_column("seq", is_sqlite, indexed=False).in_(found)]


def _conditions(query: JobQuery, is_sqlite: bool, indexed: bool) -> list[sa.ColumnElement[bool]]:
    """Translate the filters; with `indexed`, SQLite may look for states by their own index."""
    columns = tables.jobs.c
    conditions: list[sa.ColumnElement[bool]] = []
    if query.states:
        states = sorted({state.value for state in query.states})
        conditions.append(_column("state", is_sqlite, indexed).in_(states))
    if query.submitter:
        conditions.append(columns.submitter == storable(query.submitter))
    if query.since is not None:
        conditions.append(columns.submitted_at >= query.since)
    if query.until is not None:
        conditions.append(columns.submitted_at < query.until)
    position = sa.func.instr if is_sqlite else sa.func.strpos
    for word in storable(query.text).casefold().split():
        text: sa.ColumnElement[bool] = columns.search
        if len(word) < _SHORTEST_ID_WORD:
            text = sa.func.substr(text, ID_LENGTH + 2)
        conditions.append(position(text, word) > 0)
    return conditions


def _order(sort: str, descending: bool, is_sqlite: bool) -> list[sa.ColumnElement[bool]]:
    """Sort by a column, then by age; jobs without a value count as the lowest."""
    column, seq = tables.jobs.c[sort], tables.jobs.c.seq
    first = column.desc() if descending else column.asc()
    if not is_sqlite and sort in ("started_at", "ended_at"):
        first = first.nulls_last() if descending else first.nulls_first()
    return [first, seq.desc() if descending else seq.asc()]


def _column(name: str, is_sqlite: bool, indexed: bool) -> sa.ColumnElement[bool]:
    """Name a column; where SQLite had better not use its index, with the plus that says so.

    Every other index carries the state along, so that a filter by it costs next to nothing there.
    """
    column = tables.jobs.c[name]
    if indexed or not is_sqlite:
        return column
    return sa.literal_column(f"+jobs.{name}", column.type)
